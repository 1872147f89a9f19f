//! artstore-producers
