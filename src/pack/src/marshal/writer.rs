//! Writes an [`Arena`] in canonical form, without recursion.
//!
//! A node that several places name is flagged where it is first written and named
//! by a reference afterwards. Values that CPython keeps one object of are written
//! out each time, which is no longer than a reference and saves it a slot.

use super::{
    Canonical, Layout,
    arena::{Arena, Id, Kind, NUMBERS, Node},
    reader::FLAG_REF,
};

/// Integers of which every CPython keeps one object.
const SMALL_INTEGERS: std::ops::RangeInclusive<i32> = -5..=256;

/// In [`Writer::slots`]: not written yet.
const UNWRITTEN: u32 = u32::MAX;

/// Writes the code object `root`.
pub(super) fn write(
    arena: &Arena<'_>,
    root: Id,
    layout: &'static Layout,
    filename: &str,
) -> Canonical {
    let mut writer = Writer {
        arena,
        layout,
        filename,
        out: Vec::with_capacity(arena.input().len() + filename.len() + 16),
        slots: vec![UNWRITTEN; arena.len()],
        next_slot: 0,
        filename_slot: UNWRITTEN,
        filename_at: 0,
        frames: Vec::with_capacity(32),
    };
    writer.object(root);
    writer.run();
    Canonical {
        bytes: writer.out,
        filename_at: writer.filename_at,
    }
}

struct Writer<'a> {
    arena: &'a Arena<'a>,
    layout: &'static Layout,
    filename: &'a str,
    out: Vec<u8>,
    /// Of each node: its slot among the references.
    slots: Vec<u32>,
    next_slot: u32,
    filename_slot: u32,
    filename_at: u32,
    frames: Vec<Frame<'a>>,
}

/// A container whose children are being written.
struct Frame<'a> {
    children: std::slice::Iter<'a, Id>,
    node: &'a Node,
    /// Of code: the number of the next object, `co_filename` included.
    field: usize,
}

impl<'a> Writer<'a> {
    fn run(&mut self) {
        while let Some(frame) = self.frames.last_mut() {
            if frame.node.kind == Kind::Code {
                let field = frame.field;
                frame.field += 1;
                if field == self.layout.filename {
                    self.filename();
                    continue;
                }
                if field == self.layout.first_line {
                    let first_line = self.arena.numbers(frame.node)[NUMBERS - 1];
                    self.out.extend_from_slice(&first_line.to_le_bytes());
                }
            }
            if let Some(&child) = frame.children.next() {
                self.object(child);
                continue;
            }
            if frame.node.kind == Kind::Dict {
                self.out.push(b'0');
            }
            self.frames.pop();
        }
    }

    /// Writes a reference, an object without children, or the beginning of one that has some.
    fn object(&mut self, id: Id) {
        let slot = self.slots[id as usize];
        if slot != UNWRITTEN {
            self.out.push(b'r');
            self.out.extend_from_slice(&slot.to_le_bytes());
            return;
        }
        let arena = self.arena;
        let node = arena.node(id);
        let mut flag = 0;
        if node.uses > 1 && !is_one_object(node) {
            flag = FLAG_REF;
            self.slots[id as usize] = self.next_slot;
            self.next_slot += 1;
        }
        match node.kind {
            Kind::None => self.out.push(b'N'),
            Kind::StopIteration => self.out.push(b'S'),
            Kind::Ellipsis => self.out.push(b'.'),
            Kind::False => self.out.push(b'F'),
            Kind::True => self.out.push(b'T'),
            Kind::Int => self.head(b'i' | flag, node.start),
            Kind::Long => self.record(b'l' | flag, arena.bytes(node)),
            Kind::Float => self.record(b'g' | flag, arena.bytes(node)),
            Kind::Complex => self.record(b'y' | flag, arena.bytes(node)),
            Kind::Bytes => {
                self.head(b's' | flag, node.len);
                self.out.extend_from_slice(arena.bytes(node));
            }
            Kind::Text => self.text(node, flag),
            Kind::Tuple => {
                match u8::try_from(node.len) {
                    Ok(len) => self.out.extend_from_slice(&[b')' | flag, len]),
                    Err(_) => self.head(b'(' | flag, node.len),
                }
                self.open(node);
            }
            Kind::FrozenSet => {
                self.head(b'>' | flag, node.len);
                self.open(node);
            }
            Kind::List => {
                self.head(b'[' | flag, node.len);
                self.open(node);
            }
            Kind::Set => {
                self.head(b'<' | flag, node.len);
                self.open(node);
            }
            Kind::Slice => {
                self.out.push(b':' | flag);
                self.open(node);
            }
            Kind::Dict => {
                self.out.push(b'{' | flag);
                self.open(node);
            }
            Kind::Code => {
                self.out.push(b'c' | flag);
                for value in &arena.numbers(node)[..self.layout.numbers] {
                    self.out.extend_from_slice(&value.to_le_bytes());
                }
                self.open(node);
            }
        }
    }

    fn open(&mut self, node: &'a Node) {
        self.frames.push(Frame {
            children: self.arena.children(node).iter(),
            node,
            field: 0,
        });
    }

    fn text(&mut self, node: &Node, flag: u8) {
        let bytes = self.arena.bytes(node);
        let code = match (bytes.is_ascii(), node.interned) {
            (true, false) => b'a',
            (true, true) => b'A',
            (false, false) => b'u',
            (false, true) => b't',
        };
        match u8::try_from(bytes.len()) {
            // `z` and `Z` are the short forms of `a` and `A`.
            Ok(len) if bytes.is_ascii() => {
                self.out
                    .extend_from_slice(&[(code + (b'z' - b'a')) | flag, len]);
            }
            _ => self.head(code | flag, node.len),
        }
        self.out.extend_from_slice(bytes);
    }

    /// `co_filename`: one record in the long form, references afterwards.
    fn filename(&mut self) {
        if self.filename_slot != UNWRITTEN {
            return self.head(b'r', self.filename_slot);
        }
        let mut flag = 0;
        if self.arena.code_count() > 1 {
            flag = FLAG_REF;
            self.filename_slot = self.next_slot;
            self.next_slot += 1;
        }
        self.filename_at = self.out.len() as u32;
        self.head(b'u' | flag, self.filename.len() as u32);
        self.out.extend_from_slice(self.filename.as_bytes());
    }

    fn head(&mut self, code: u8, number: u32) {
        self.out.push(code);
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    fn record(&mut self, code: u8, bytes: &[u8]) {
        self.out.push(code);
        self.out.extend_from_slice(bytes);
    }
}

/// CPython keeps one object of this value, whoever makes it.
fn is_one_object(node: &Node) -> bool {
    match node.kind {
        Kind::None | Kind::StopIteration | Kind::Ellipsis | Kind::False | Kind::True => true,
        Kind::Int => SMALL_INTEGERS.contains(&node.start.cast_signed()),
        Kind::Bytes | Kind::Tuple => node.len == 0,
        _ => false,
    }
}
