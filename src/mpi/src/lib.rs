//! The MPI transport of pybundle: a plug-in with a C table, built once for each MPI.
//!
//! Crate `load` opens it where a launcher says that there are several ranks, checks the version of
//! [`interface`] and calls through [`table`]. Nothing else of pybundle is in here, so that it
//! can be built alone for one more MPI. [`session`] starts and ends MPI, [`groups`] and
//! [`requests`] hold communicators and collective calls under way, [`intercept`] answers a
//! program that initialises MPI once more.

mod failure;
mod groups;
mod intercept;
mod interface;
mod lowest;
mod requests;
mod session;
mod table;
