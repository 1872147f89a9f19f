//! artstore
fn main() {}
