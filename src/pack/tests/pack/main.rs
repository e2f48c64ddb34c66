//! Packs real environments and compares the bundle with what the interpreter says of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod bundle;
mod environment;

mod bytes;
mod code;
mod libraries;
mod modules;
mod refused;
mod repack;
mod site;
mod tree;
