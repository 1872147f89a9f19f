//! What commands do with rows of the audit log: [`select`] says which, [`export`] writes them for other
//! systems.

pub mod export;
pub mod select;
