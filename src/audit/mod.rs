//! What commands do with rows of the audit log: [`select`] chooses them, [`export`] writes them for other
//! systems.

pub mod export;
pub mod select;
