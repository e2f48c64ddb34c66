//! The build ID that linkers write into programs and libraries: two files that have the same one
//! are the same build, wherever they lie.

/// Type of the note (`NT_GNU_BUILD_ID`).
const BUILD_ID: u32 = 3;

/// Finds the build ID, in hexadecimal, in the bytes of an ELF note segment.
///
/// The notes are those of the System V ABI: lengths of name and content, type, 4 bytes each, then
/// both, each filled up to a multiple of 4.
#[must_use]
pub fn id_in_notes(mut notes: &[u8]) -> Option<String> {
    loop {
        let (head, rest) = notes.split_at_checked(12)?;
        let word = |at: usize| {
            let bytes = head.get(at..)?.first_chunk()?;
            usize::try_from(u32::from_le_bytes(*bytes)).ok()
        };
        let (name_len, len, kind) = (word(0)?, word(4)?, word(8)?);
        let (name, rest) = rest.split_at_checked(name_len.checked_next_multiple_of(4)?)?;
        let content = rest.get(..len)?;
        if kind == BUILD_ID as usize && name == b"GNU\0" {
            let digits = |text: String, byte: &u8| text + &format!("{byte:02x}");
            return Some(content.iter().fold(String::new(), digits));
        }
        notes = rest.get(len.checked_next_multiple_of(4)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], content: &[u8], kind: u32) -> Vec<u8> {
        let mut note = Vec::new();
        for number in [name.len() as u32, content.len() as u32, kind] {
            note.extend(number.to_le_bytes());
        }
        for part in [name, content] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_id_is_found_among_other_notes() {
        let other = note(b"GNU\0", &[1; 13], 5);
        let wanted = note(b"GNU\0", &[0xab, 0x01, 0xff], BUILD_ID);
        let foreign = note(b"stapsdt\0", &[9], BUILD_ID);
        let all = [other, foreign, wanted].concat();
        assert_eq!(id_in_notes(&all).as_deref(), Some("ab01ff"));
        for end in 0..all.len() - 1 {
            assert_eq!(id_in_notes(&all[..end]), None);
        }
        assert_eq!(id_in_notes(&[0xff; 64]), None);
    }
}
