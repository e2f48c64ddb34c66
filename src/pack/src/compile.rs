//! Bytecode by the environment's own interpreter.
//!
//! The marshal format belongs to one Python version, so [`probe`] asks the
//! interpreter what it is, a [`Pool`] of its processes compiles sources as
//! `importlib` would, and [`pycache`] finds what need not be compiled again.
//! All processes run isolated (`-I`), write no `__pycache__` of their own, and
//! are killed when they take longer than they may.

pub mod probe;
pub mod pycache;

mod child;
mod pool;
mod siphash;
mod worker;

pub use pool::Pool;
pub use probe::{Interpreter, ProbeError, find_interpreter, probe};
pub use worker::CompileError;
