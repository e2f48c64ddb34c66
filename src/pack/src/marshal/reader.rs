//! Reads marshalled data into an [`Arena`], without recursion.
//!
//! Children of open containers wait on one stack of values; a container becomes a
//! node when its last child is there. Slots for references are taken in CPython's
//! order: a container's before those of its children.

use super::{
    Field, Layout, MarshalError,
    arena::{Arena, Id, Kind, NUMBERS},
};

/// Levels of nesting that CPython's `marshal` reads (`MAX_MARSHAL_STACK_DEPTH`).
pub(super) const DEPTH_LIMIT: usize = 2000;

/// Set in the type byte of an object that later references name.
pub(super) const FLAG_REF: u8 = 0x80;

/// A slot whose object isn't complete.
const INCOMPLETE: Id = Id::MAX;

/// Reads exactly one code object.
pub(super) fn read<'a>(
    input: &'a [u8],
    layout: &'static Layout,
) -> Result<(Arena<'a>, Id), MarshalError> {
    if i32::try_from(input.len()).is_err() {
        return Err(MarshalError::TooLong(input.len()));
    }
    if input.first().is_none_or(|code| code & !FLAG_REF != b'c') {
        return Err(MarshalError::NotCode);
    }
    let mut reader = Reader {
        input,
        at: 0,
        layout,
        arena: Arena::new(input),
        slots: Vec::with_capacity(input.len() / 64),
        values: Vec::with_capacity(256),
        frames: Vec::with_capacity(32),
    };
    let root = reader.run()?;
    match input.len() - reader.at {
        0 => Ok((reader.arena, root)),
        rest => Err(MarshalError::Trailing(rest)),
    }
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    layout: &'static Layout,
    arena: Arena<'a>,
    /// What the references name.
    slots: Vec<Id>,
    values: Vec<Id>,
    frames: Vec<Frame>,
}

/// A container whose children are being read.
struct Frame {
    kind: Kind,
    /// Children still to come; not counted for dicts, which end by a null.
    missing: u32,
    /// First child on the stack of values.
    base: usize,
    slot: Option<usize>,
    numbers: [i32; NUMBERS],
}

/// What begins at the current offset.
enum Step {
    Value(Id),
    Container,
    /// The end of a dict.
    Null,
}

impl Reader<'_> {
    fn run(&mut self) -> Result<Id, MarshalError> {
        loop {
            let mut value = match self.step()? {
                Step::Container => continue,
                Step::Value(id) => id,
                Step::Null => self.close()?,
            };
            // The value may complete its container, that one the next, and so on.
            loop {
                let Some(frame) = self.frames.last_mut() else {
                    return Ok(value);
                };
                self.values.push(value);
                if frame.kind == Kind::Dict {
                    break;
                }
                frame.missing -= 1;
                if frame.kind == Kind::Code
                    && self.values.len() - frame.base == self.layout.first_line
                {
                    frame.numbers[NUMBERS - 1] = number(self.input, &mut self.at)?;
                }
                if frame.missing > 0 {
                    break;
                }
                value = self.close()?;
            }
        }
    }

    /// Reads one object that has no children, or opens one that has.
    fn step(&mut self) -> Result<Step, MarshalError> {
        let begin = self.at;
        let byte = self.take(1)?[0];
        let (code, flagged) = (byte & !FLAG_REF, byte & FLAG_REF != 0);
        let id = match code {
            b'0' if self.dict_may_end() => return Ok(Step::Null),
            // Singletons never take a slot, even if flagged.
            b'N' => return Ok(Step::Value(self.arena.simple(Kind::None, 0))),
            b'S' => return Ok(Step::Value(self.arena.simple(Kind::StopIteration, 0))),
            b'.' => return Ok(Step::Value(self.arena.simple(Kind::Ellipsis, 0))),
            b'F' => return Ok(Step::Value(self.arena.simple(Kind::False, 0))),
            b'T' => return Ok(Step::Value(self.arena.simple(Kind::True, 0))),
            b'r' => return self.reference(begin).map(Step::Value),
            b'i' => {
                let value = self.number()?;
                self.arena.simple(Kind::Int, value)
            }
            b'l' => self.long()?,
            b'g' => self.span(Kind::Float, 8)?,
            b'y' => self.span(Kind::Complex, 16)?,
            b's' => {
                let len = self.length()?;
                self.span(Kind::Bytes, len)?
            }
            b'z' | b'Z' => {
                let len = usize::from(self.take(1)?[0]);
                self.text(len, true, code == b'Z')?
            }
            b'a' | b'A' => {
                let len = self.length()?;
                self.text(len, true, code == b'A')?
            }
            b'u' | b't' => {
                let len = self.length()?;
                self.text(len, false, code == b't')?
            }
            b')' => {
                let count = usize::from(self.take(1)?[0]);
                return self.open(Kind::Tuple, count, flagged, begin);
            }
            b'(' | b'>' | b'[' | b'<' => {
                let kind = match code {
                    b'(' => Kind::Tuple,
                    b'>' => Kind::FrozenSet,
                    b'[' => Kind::List,
                    _ => Kind::Set,
                };
                let count = self.length()?;
                return self.open(kind, count, flagged, begin);
            }
            b':' => return self.open(Kind::Slice, 3, flagged, begin),
            b'{' => return self.open(Kind::Dict, 0, flagged, begin),
            b'c' => return self.open(Kind::Code, self.layout.objects.len(), flagged, begin),
            code => return Err(MarshalError::Type { at: begin, code }),
        };
        if flagged {
            self.slots.push(id);
        }
        Ok(Step::Value(id))
    }

    /// Opens a container of `count` children, or makes it if it is empty.
    fn open(
        &mut self,
        kind: Kind,
        count: usize,
        flagged: bool,
        begin: usize,
    ) -> Result<Step, MarshalError> {
        if self.frames.len() + 1 >= DEPTH_LIMIT {
            return Err(MarshalError::Depth { at: begin });
        }
        let slot = flagged.then_some(self.slots.len());
        if flagged {
            self.slots.push(INCOMPLETE);
        }
        let mut numbers = [0; NUMBERS];
        if kind == Kind::Code {
            for field in &mut numbers[..self.layout.numbers] {
                *field = number(self.input, &mut self.at)?;
            }
        }
        let base = self.values.len();
        self.frames.push(Frame {
            kind,
            missing: count as u32,
            base,
            slot,
            numbers,
        });
        if count == 0 && kind != Kind::Dict {
            return self.close().map(Step::Value);
        }
        Ok(Step::Container)
    }

    /// Makes a node of the innermost container.
    fn close(&mut self) -> Result<Id, MarshalError> {
        let Some(frame) = self.frames.pop() else {
            return Err(MarshalError::NotCode);
        };
        let children = &mut self.values[frame.base..];
        let id = match frame.kind {
            Kind::Tuple | Kind::Slice => self.arena.merged(frame.kind, children),
            Kind::FrozenSet => {
                children.sort_by(|&a, &b| self.arena.compare(a, b));
                self.arena.merged(frame.kind, children)
            }
            Kind::Code => {
                check_fields(&mut self.arena, self.layout, children, self.at)?;
                children[self.layout.filename..].rotate_left(1);
                let objects = children.len() - 1;
                self.arena.code(frame.numbers, &children[..objects])
            }
            kind => self.arena.separate(kind, children),
        };
        self.values.truncate(frame.base);
        if let Some(slot) = frame.slot {
            self.slots[slot] = id;
        }
        Ok(id)
    }

    fn reference(&mut self, begin: usize) -> Result<Id, MarshalError> {
        let index = self.number()?.cast_unsigned();
        match self.slots.get(index as usize) {
            Some(&id) if id != INCOMPLETE => Ok(id),
            _ => Err(MarshalError::Reference { at: begin, index }),
        }
    }

    fn text(&mut self, len: usize, ascii: bool, interned: bool) -> Result<Id, MarshalError> {
        let at = self.at;
        let bytes = self.take(len)?;
        if !bytes.is_ascii() && (ascii || !is_utf8_with_surrogates(bytes)) {
            return Err(MarshalError::String { at });
        }
        let id = self.arena.span(Kind::Text, at, len);
        // A name of a file may be interned by chance, and is replaced anyway.
        if interned && !self.reads_filename() {
            self.arena.saw_interned(id);
        }
        Ok(id)
    }

    /// An integer of 15-bit digits.
    fn long(&mut self) -> Result<Id, MarshalError> {
        let begin = self.at;
        let malformed = MarshalError::Integer { at: begin };
        let count = self.number()?;
        let bytes = self.take(count.unsigned_abs() as usize * 2)?;
        let digits = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        if digits.clone().any(|digit| digit > 0x7FFF) || digits.clone().next_back() == Some(0) {
            return Err(malformed);
        }
        if digits.len() > 3 {
            return Ok(self.arena.span(Kind::Long, begin, self.at - begin));
        }
        let magnitude = digits
            .rev()
            .fold(0_i64, |value, digit| value << 15 | i64::from(digit));
        match i32::try_from(magnitude * i64::from(count.signum())) {
            Ok(value) => Ok(self.arena.simple(Kind::Int, value)),
            Err(_) => Ok(self.arena.span(Kind::Long, begin, self.at - begin)),
        }
    }

    fn span(&mut self, kind: Kind, len: usize) -> Result<Id, MarshalError> {
        let at = self.at;
        self.take(len)?;
        Ok(self.arena.span(kind, at, len))
    }

    /// The next object is `co_filename` of the innermost code object.
    fn reads_filename(&self) -> bool {
        self.frames.last().is_some_and(|frame| {
            frame.kind == Kind::Code && self.values.len() - frame.base == self.layout.filename
        })
    }

    /// The innermost container is a dict that awaits a key.
    fn dict_may_end(&self) -> bool {
        self.frames.last().is_some_and(|frame| {
            frame.kind == Kind::Dict && (self.values.len() - frame.base).is_multiple_of(2)
        })
    }

    /// A length of bytes or children; each takes at least a byte of what follows.
    fn length(&mut self) -> Result<usize, MarshalError> {
        let at = self.at;
        let length = self.number()?;
        usize::try_from(length)
            .ok()
            .filter(|&length| length <= self.input.len() - self.at)
            .ok_or(MarshalError::Length {
                at,
                length: length.into(),
            })
    }

    fn number(&mut self) -> Result<i32, MarshalError> {
        number(self.input, &mut self.at)
    }

    fn take(&mut self, len: usize) -> Result<&[u8], MarshalError> {
        take(self.input, &mut self.at, len)
    }
}

fn number(input: &[u8], at: &mut usize) -> Result<i32, MarshalError> {
    let bytes = take(input, at, 4)?;
    Ok(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn take<'a>(input: &'a [u8], at: &mut usize, len: usize) -> Result<&'a [u8], MarshalError> {
    let rest = &input[*at..];
    let Some(bytes) = rest.get(..len) else {
        return Err(MarshalError::Truncated {
            at: *at,
            needed: len,
            left: rest.len(),
        });
    };
    *at += len;
    Ok(bytes)
}

/// Checks the types of a code object's fields and notes which strings are names.
fn check_fields(
    arena: &mut Arena<'_>,
    layout: &'static Layout,
    objects: &[Id],
    at: usize,
) -> Result<(), MarshalError> {
    for (&id, &(field, expected)) in objects.iter().zip(layout.objects) {
        let node = arena.node(id);
        let right = match expected {
            Field::Bytes => node.kind == Kind::Bytes,
            Field::Text => node.kind == Kind::Text,
            Field::Tuple => node.kind == Kind::Tuple,
            Field::Names => {
                node.kind == Kind::Tuple
                    && arena
                        .children(node)
                        .iter()
                        .all(|&name| arena.node(name).kind == Kind::Text)
            }
        };
        if !right {
            return Err(MarshalError::Field { at, field });
        }
        if expected == Field::Names {
            arena.intern_names(id);
        }
    }
    Ok(())
}

/// UTF-8 in which CPython's `surrogatepass` lets single surrogates stand.
fn is_utf8_with_surrogates(mut bytes: &[u8]) -> bool {
    while let Err(error) = std::str::from_utf8(bytes) {
        match bytes[error.valid_up_to()..] {
            [0xED, 0xA0..=0xBF, 0x80..=0xBF, ref rest @ ..] => bytes = rest,
            _ => return false,
        }
    }
    true
}
