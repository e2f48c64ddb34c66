//! One file a command.

pub(crate) mod clean;
pub(crate) mod diff;
pub(crate) mod inspect;
pub(crate) mod pack;
pub(crate) mod python;
pub(crate) mod receipt;
pub(crate) mod stage;
pub(crate) mod unpack;
pub(crate) mod verify;
