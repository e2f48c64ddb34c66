//! The hash of a source in a hash-based `.pyc` (`_imp.source_hash`): SipHash, keyed
//! with the magic number.

/// SipHash with `ROUNDS` rounds per word and three at the end for one, four for two:
/// SipHash-1-3 or SipHash-2-4.
pub(super) fn siphash<const ROUNDS: usize>(key: u64, data: &[u8]) -> u64 {
    let mut state = [
        key ^ 0x736f_6d65_7073_6575,
        0x646f_7261_6e64_6f6d,
        key ^ 0x6c79_6765_6e65_7261,
        0x7465_6462_7974_6573,
    ];
    let mut mix = |word: u64| {
        state[3] ^= word;
        for _ in 0..ROUNDS {
            round(&mut state);
        }
        state[0] ^= word;
    };
    let words = data.chunks_exact(8);
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    last[7] = data.len() as u8;
    for word in words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        mix(u64::from_le_bytes(bytes));
    }
    mix(u64::from_le_bytes(last));
    state[2] ^= 0xFF;
    for _ in 0..ROUNDS + 2 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use super::siphash;

    /// Values of `_imp.source_hash` with the magic numbers of 3.10 and 3.13.
    #[test]
    fn equals_cpythons_source_hash() {
        let words = b"import os, sys\n";
        assert_eq!(
            siphash::<2>(0x0a0d_0d6f, b"x = 1\n"),
            u64::from_le_bytes(*b"\xd9\x4a\xad\xe2\x8c\x8c\xbe\xbf")
        );
        assert_eq!(
            siphash::<2>(0x0a0d_0d6f, words),
            u64::from_le_bytes(*b"\x5c\x1b\x52\x5a\xfe\x95\x51\xf9")
        );
        assert_eq!(
            siphash::<1>(0x0a0d_0df3, b"x = 1\n"),
            u64::from_le_bytes(*b"\xe7\x86\xe2\x89\x36\x51\x12\x0e")
        );
        assert_eq!(
            siphash::<1>(0x0a0d_0df3, words),
            u64::from_le_bytes(*b"\xe4\xe9\x94\xcf\x43\x31\x80\x9f")
        );
    }
}
