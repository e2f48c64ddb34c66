//! The README's table of environment variables is the one in `environment.rs`.

use std::fmt::Write as _;

use pybundle_load::environment::VARIABLES;

#[test]
fn readme_has_the_table_of_variables() {
    let mut table = String::from("| variable | means | default |\n| --- | --- | --- |\n");
    for variable in VARIABLES {
        let meaning = variable.meaning.replace('|', "\\|");
        writeln!(
            table,
            "| `{}` | {meaning} | {} |",
            variable.name, variable.default
        )
        .unwrap();
    }
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = fs_err::read_to_string(readme).unwrap();
    assert!(
        readme.contains(&table),
        "README.md needs this table:\n\n{table}"
    );
}
