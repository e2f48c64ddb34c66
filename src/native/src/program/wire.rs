//! The form in which a program travels: fields one behind the other, each with its length.

use super::{Content, Files, Folder, Found, Module};

/// What root sends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// What the program is, in root's words: a rank that would say the same runs the same.
    pub(crate) name: Vec<u8>,
    /// Its text, where root has read one.
    pub(crate) text: Option<Vec<u8>>,
    /// The folder that becomes `sys.path[0]`.
    pub(crate) folder: Option<Vec<u8>>,
    /// The program is that folder itself.
    pub(crate) is_folder: bool,
    /// The program, or a module that it reaches, mentions mpi4py.
    pub(crate) names_mpi4py: bool,
    /// The interpreters that can use the bytecode.
    pub(crate) interpreter: Vec<u8>,
    /// What lies in the folder.
    pub(crate) files: Files,
}

const PORTION: u8 = 0;
const CODE: u8 = 1;
const TEXT: u8 = 2;
const PACKAGE: u8 = 4;

impl Message {
    /// The bytes to send.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.bytes(&self.name);
        out.option(self.text.as_deref());
        out.option(self.folder.as_deref());
        out.0.push(self.is_folder.into());
        out.0.push(self.names_mpi4py.into());
        out.bytes(&self.interpreter);
        out.number(self.files.folders.len());
        for (path, folder) in &self.files.folders {
            out.bytes(path);
            out.0.push(folder.metadata.into());
            out.number(folder.names.len());
            for name in &folder.names {
                out.bytes(name);
            }
            out.number(folder.found.len());
            for (name, found) in &folder.found {
                out.bytes(name);
                out.found(found);
            }
        }
        out.0
    }

    /// What was sent; `None` if it isn't a message.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let mut message = Self {
            name: rest.bytes()?.to_vec(),
            text: rest.option()?.map(<[u8]>::to_vec),
            folder: rest.option()?.map(<[u8]>::to_vec),
            is_folder: rest.byte()? != 0,
            names_mpi4py: rest.byte()? != 0,
            interpreter: rest.bytes()?.to_vec(),
            files: Files::default(),
        };
        for _ in 0..rest.number()? {
            let path = rest.bytes()?.to_vec();
            let mut folder = Folder {
                metadata: rest.byte()? != 0,
                ..Folder::default()
            };
            for _ in 0..rest.number()? {
                folder.names.insert(rest.bytes()?.to_vec());
            }
            for _ in 0..rest.number()? {
                let name = rest.bytes()?.to_vec();
                folder.found.insert(name, rest.found()?);
            }
            message.files.folders.insert(path, folder);
        }
        rest.0.is_empty().then_some(message)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: usize) {
        self.0.extend((number as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.extend(bytes);
    }

    fn option(&mut self, bytes: Option<&[u8]>) {
        self.0.push(bytes.is_some().into());
        if let Some(bytes) = bytes {
            self.bytes(bytes);
        }
    }

    fn found(&mut self, found: &Found) {
        let Found::Module(module) = found else {
            self.0.push(PORTION);
            return;
        };
        let (kind, bytes) = match &module.content {
            Content::Code(bytes) => (CODE, bytes),
            Content::Text(bytes) => (TEXT, bytes),
        };
        self.0.push(kind | if module.package { PACKAGE } else { 0 });
        self.bytes(bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<usize> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        usize::try_from(u64::from_le_bytes(*number)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    #[expect(
        clippy::option_option,
        reason = "the outer one is the end of the bytes"
    )]
    fn option(&mut self) -> Option<Option<&'a [u8]>> {
        match self.byte()? {
            0 => Some(None),
            _ => self.bytes().map(Some),
        }
    }

    fn found(&mut self) -> Option<Found> {
        let kind = self.byte()?;
        if kind == PORTION {
            return Some(Found::Portion);
        }
        let bytes = self.bytes()?.to_vec();
        let content = match kind & !PACKAGE {
            CODE => Content::Code(bytes),
            TEXT => Content::Text(bytes),
            _ => return None,
        };
        let package = kind & PACKAGE != 0;
        Some(Found::Module(Module { package, content }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let module = |package, content| Found::Module(Module { package, content });
        let found = [
            (b"a".to_vec(), module(false, Content::Code(vec![0, 1, 2]))),
            (b"b".to_vec(), module(true, Content::Text(b"B = 1".into()))),
            (b"c".to_vec(), Found::Portion),
        ];
        let folder = Folder {
            names: [b"a".to_vec(), b"d".to_vec()].into(),
            found: found.into(),
            metadata: true,
        };
        Message {
            name: b"/home/app.py".to_vec(),
            text: Some(Vec::new()),
            folder: Some(b"/home".to_vec()),
            names_mpi4py: true,
            interpreter: b"3.11".to_vec(),
            files: Files {
                folders: [(b"/home".to_vec(), folder)].into(),
            },
            ..Message::default()
        }
    }

    #[test]
    fn what_is_sent_arrives() {
        for message in [message(), Message::default()] {
            assert_eq!(Message::from_bytes(&message.to_bytes()), Some(message));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let bytes = message().to_bytes();
        for len in 0..bytes.len() {
            assert_eq!(Message::from_bytes(&bytes[..len]), None);
        }
        assert_eq!(Message::from_bytes(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(Message::from_bytes(&[0xff; 64]), None);
    }
}
