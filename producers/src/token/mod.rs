//! Who somebody is: a token of the product, verified. What comes out is the actor of an event, marked as
//! verified; the token itself goes nowhere. In the order in which a token passes:
//!
//! - [`keys`]: the public keys, as the files have them now
//! - [`header`]: what a token's header may say
//! - `claims`: what a token says about its owner
//! - [`role`]: what the owner may do
//! - [`refusal`]: why a token is worth nothing
//! - [`verify`]: all of it
//!
//! A program that writes rows with SQL alone can't verify: its rows claim an actor.

mod claims;
pub mod header;
pub mod keys;
pub mod refusal;
pub mod role;
pub mod verify;

#[cfg(test)]
mod signed;
#[cfg(test)]
mod tests;
