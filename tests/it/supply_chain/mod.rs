//! What the program is made of, and what it is built with.
//!
//! - `denied`: dependencies that deny.toml does not allow
//! - `bill_of_materials`: the list of what is linked into the program
//! - `pinned`: versions and hashes of everything that is fetched

mod bill_of_materials;
mod denied;
mod pinned;
