//! pack

pub mod marshal;
