//! artstore
