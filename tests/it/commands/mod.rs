//! The program as people use it.
//!
//! - `names`: names that people type, at every command, and what each says about itself
//! - `program`: `demo` and `dev`
//! - `smoke`: `migrate smoke`: one file the whole way

mod names;
mod program;
mod smoke;
