//! The contract of the bus, in the order in which an event takes shape.

pub mod element;
