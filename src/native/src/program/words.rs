//! Names that a text mentions.
//!
//! Every word counts, not only those of `import` statements: a name in a string or a comment may be
//! the one that `importlib.import_module` is given. A word too many costs one file more to read.

/// The words of a text, each one as often as it stands there.
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let part_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    text.split(move |byte| !part_of_name(byte))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_statements_strings_and_other_scripts() {
        let text = "from .one import two\nload('pkg.three')  # \u{e4}pfel-4\n";
        let found: Vec<_> = words(text.as_bytes()).collect();
        let expected = [
            "from",
            "one",
            "import",
            "two",
            "load",
            "pkg",
            "three",
            "\u{e4}pfel",
            "4",
        ];
        assert_eq!(found, expected.map(str::as_bytes));
    }
}
