//! The object graph: nodes in one vector, equal immutable values merged into one.
//!
//! Merging compares bit by bit and type by type (`0.0` is not `-0.0`, `1` is not
//! `True`, `b"a"` is not `"a"`). What has an identity that a program can notice is
//! never merged: code objects, lists, sets, dicts, and NaN, which isn't even equal
//! to itself. Whether a string is interned belongs to the value, not to its place.

use std::cmp::Ordering;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Index of a node.
pub(super) type Id = u32;

/// Type of a node. The order is the order in which frozensets are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    None,
    StopIteration,
    Ellipsis,
    False,
    True,
    /// Fits 32 bits; `start` is the value.
    Int,
    /// Its record: number of digits, signed, and the digits.
    Long,
    /// Eight bytes.
    Float,
    /// Sixteen bytes.
    Complex,
    Bytes,
    /// UTF-8, surrogates passed.
    Text,
    Tuple,
    FrozenSet,
    Slice,
    List,
    Set,
    /// Keys and values in turn.
    Dict,
    Code,
}

impl Kind {
    /// Content is `len` bytes of the input from `start`.
    fn is_span(self) -> bool {
        (Self::Long..=Self::Text).contains(&self)
    }

    /// Content is `len` children from `start`.
    fn has_children(self) -> bool {
        self >= Self::Tuple
    }
}

/// One object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// A string that CPython is to intern when it loads it.
    pub(super) interned: bool,
    /// Number of places that name this node.
    pub(super) uses: u32,
    pub(super) start: u32,
    pub(super) len: u32,
    /// Of code: index into [`Arena::numbers`].
    pub(super) code: u32,
}

/// Most numbers that a code object has: those before the objects and the first line.
pub(super) const NUMBERS: usize = 7;

/// All objects of one marshalled module.
pub(super) struct Arena<'a> {
    input: &'a [u8],
    nodes: Vec<Node>,
    hashes: Vec<u64>,
    children: Vec<Id>,
    /// Numbers of code objects; the last is `co_firstlineno`.
    numbers: Vec<[i32; NUMBERS]>,
    table: HashTable<Id>,
    hasher: DefaultHashBuilder,
}

impl<'a> Arena<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        // One node for about thirty bytes is what the standard library has.
        let guess = input.len() / 32 + 16;
        Self {
            input,
            nodes: Vec::with_capacity(guess),
            hashes: Vec::with_capacity(guess),
            children: Vec::with_capacity(guess * 2),
            numbers: Vec::new(),
            table: HashTable::with_capacity(guess),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(super) fn input(&self) -> &'a [u8] {
        self.input
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Number of code objects.
    pub(super) fn code_count(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// Bytes of a node that is a span of the input.
    pub(super) fn bytes(&self, node: &Node) -> &'a [u8] {
        &self.input[node.start as usize..][..node.len as usize]
    }

    pub(super) fn children(&self, node: &Node) -> &[Id] {
        &self.children[node.start as usize..][..node.len as usize]
    }

    pub(super) fn numbers(&self, node: &Node) -> &[i32; NUMBERS] {
        &self.numbers[node.code as usize]
    }

    /// The node of a value without content, or of a small number.
    pub(super) fn simple(&mut self, kind: Kind, value: i32) -> Id {
        let hash = self.hasher.hash_one((kind as u8, value));
        let start = value.cast_unsigned();
        let found = self.table.find(hash, |&id| {
            let node = &self.nodes[id as usize];
            node.kind == kind && node.start == start
        });
        match found {
            Some(&id) => id,
            None => self.insert(Node::new(kind, start, 0), Some(hash)),
        }
    }

    /// The node whose content is a span of the input, which the reader has checked.
    pub(super) fn span(&mut self, kind: Kind, start: usize, len: usize) -> Id {
        let content = &self.input[start..start + len];
        let node = Node::new(kind, start as u32, len as u32);
        if is_nan(kind, content) {
            return self.insert(node, None);
        }
        let hash = self.hash_bytes(kind, content);
        let found = self.table.find(hash, |&id| {
            let other = &self.nodes[id as usize];
            other.kind == kind && self.bytes(other) == content
        });
        if let Some(&id) = found {
            return id;
        }
        let interned = kind == Kind::Text && content.iter().all(|&byte| is_name(byte));
        self.insert(Node { interned, ..node }, Some(hash))
    }

    /// The node of an immutable container.
    pub(super) fn merged(&mut self, kind: Kind, children: &[Id]) -> Id {
        let hash = self.hasher.hash_one((kind as u8, children));
        let found = self.table.find(hash, |&id| {
            let other = &self.nodes[id as usize];
            other.kind == kind && self.children(other) == children
        });
        match found {
            Some(&id) => id,
            None => self.insert_parent(kind, children, Some(hash)),
        }
    }

    /// A node of its own, for containers that have an identity.
    pub(super) fn separate(&mut self, kind: Kind, children: &[Id]) -> Id {
        self.insert_parent(kind, children, None)
    }

    /// A code object; `children` are its objects without `co_filename`.
    pub(super) fn code(&mut self, numbers: [i32; NUMBERS], children: &[Id]) -> Id {
        let id = self.insert_parent(Kind::Code, children, None);
        self.nodes[id as usize].code = self.numbers.len() as u32;
        self.numbers.push(numbers);
        id
    }

    /// Notes that CPython had interned this string.
    ///
    /// Latin-1 characters don't count: CPython keeps one object of each, which is
    /// interned or not depending on what the process did before.
    pub(super) fn saw_interned(&mut self, id: Id) {
        let node = &self.nodes[id as usize];
        if node.kind == Kind::Text && !matches!(self.bytes(node), [_] | [0xC2 | 0xC3, _]) {
            self.nodes[id as usize].interned = true;
        }
    }

    /// Notes that the elements of this tuple are names, which CPython interns.
    pub(super) fn intern_names(&mut self, tuple: Id) {
        let Node { start, len, .. } = self.nodes[tuple as usize];
        for index in start..start + len {
            let child = self.children[index as usize];
            self.nodes[child as usize].interned = true;
        }
    }

    /// Order of elements of a frozenset: by content, the same for any input.
    pub(super) fn compare(&self, mut a: Id, mut b: Id) -> Ordering {
        loop {
            let (left, right) = (self.node(a), self.node(b));
            if a == b || left.kind != right.kind {
                return left.kind.cmp(&right.kind);
            }
            if left.kind.is_span() {
                return self.bytes(left).cmp(self.bytes(right)).then(a.cmp(&b));
            }
            if !left.kind.has_children() {
                return left.start.cast_signed().cmp(&right.start.cast_signed());
            }
            if left.kind == Kind::Code {
                return a.cmp(&b);
            }
            // Merged nodes are equal only if they are the same, so the first pair of
            // children that differs decides.
            let (lefts, rights) = (self.children(left), self.children(right));
            let differing = lefts.iter().zip(rights).find(|(l, r)| l != r);
            match differing {
                Some((&l, &r)) => (a, b) = (l, r),
                None => return lefts.len().cmp(&rights.len()).then(a.cmp(&b)),
            }
        }
    }

    fn insert_parent(&mut self, kind: Kind, children: &[Id], hash: Option<u64>) -> Id {
        for &child in children {
            // More than one is all that matters; the count can't overflow a `u32`
            // either, since every use takes a byte of the input.
            self.nodes[child as usize].uses += 1;
        }
        let start = self.children.len() as u32;
        self.children.extend_from_slice(children);
        self.insert(Node::new(kind, start, children.len() as u32), hash)
    }

    fn insert(&mut self, node: Node, hash: Option<u64>) -> Id {
        let id = self.nodes.len() as Id;
        self.nodes.push(node);
        self.hashes.push(hash.unwrap_or(0));
        if let Some(hash) = hash {
            let hashes = &self.hashes;
            self.table
                .insert_unique(hash, id, |&id| hashes[id as usize]);
        }
        id
    }

    fn hash_bytes(&self, kind: Kind, content: &[u8]) -> u64 {
        self.hasher.hash_one((kind as u8, content))
    }
}

impl Node {
    fn new(kind: Kind, start: u32, len: u32) -> Self {
        Self {
            kind,
            interned: false,
            uses: 0,
            start,
            len,
            code: 0,
        }
    }
}

/// Characters of which CPython interns any string constant that has no others.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_nan(kind: Kind, content: &[u8]) -> bool {
    matches!(kind, Kind::Float | Kind::Complex)
        && content.chunks_exact(8).any(|half| {
            half.try_into()
                .is_ok_and(|half| f64::from_le_bytes(half).is_nan())
        })
}
