//! `import` lines of `.pth` files, run as `site` runs them.
//!
//! Only where `site` hasn't: the running interpreter isn't the environment's own.

use pybundle_bundle::name;
use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};

use super::state::State;

/// `site.addpackage`, as far as a line can see it: namespace packages of the old kind read
/// `sitedir` from the calling frame.
const ADDPACKAGE: &std::ffi::CStr = c"
import builtins, io, os, sys

def addpackage(sitedir, name, line):
    fullname = os.path.join(sitedir, name)
    exec(line)
";

impl State {
    /// Runs the lines in `site`'s order. As there, an error is printed, and ends its file alone.
    pub(crate) fn run_pth_lines(&self, py: Python<'_>) -> PyResult<()> {
        let lines = &self.image.manifest().pth;
        if lines.is_empty() {
            return Ok(());
        }
        let globals = PyDict::new(py);
        py.run(ADDPACKAGE, Some(&globals), None)?;
        let Some(add) = globals.get_item("addpackage")? else {
            return Ok(());
        };
        let mut failed: Option<&str> = None;
        for line in lines {
            if failed == Some(line.file.as_str()) {
                continue;
            }
            let (folder, file) = name::split(line.file.as_bytes());
            let sitedir = self.tree_string(py, folder)?;
            let file = PyString::new(py, &String::from_utf8_lossy(file));
            if let Err(error) = add.call1((&sitedir, file, &line.line)) {
                let place = self.tree_path(line.file.as_bytes());
                let stderr = py.import("sys")?.getattr("stderr")?;
                if !stderr.is_none() {
                    let note = format!("Error processing a line of {}:\n\n", place.display());
                    stderr.call_method1("write", (note,))?;
                    error.display(py);
                    stderr.call_method1("write", ("\nRemainder of file ignored\n",))?;
                }
                failed = Some(&line.file);
            }
        }
        Ok(())
    }
}
