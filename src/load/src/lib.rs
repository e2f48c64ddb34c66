//! load

pub mod transport;
