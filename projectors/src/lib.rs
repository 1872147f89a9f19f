//! artstore-projectors
