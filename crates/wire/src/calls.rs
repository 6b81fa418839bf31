//! The driver's calls on the wire: numbers, names and the fingerprint of the table.
//!
//! A call's opcode is its position in `cuda::driver_calls!`. That alone would let two builds with different tables
//! misunderstand each other in silence, so the handshake compares [`FINGERPRINT`], a hash over the whole table: a call
//! added, moved or changed makes the builds refuse each other with a clear reason.

/// Grows whenever frames, handshake or the types within calls change their meaning.
pub const PROTOCOL_VERSION: u16 = 1;

macro_rules! table {
    ($($(#[$doc:meta])* $class:ident fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $answer:ty)?;)*) => {
        #[derive(Clone, Copy)]
        enum Position { $($name,)* }

        /// Opcodes of the calls.
        pub mod opcode {
            use super::Position;
            $(
                #[doc = concat!("`Driver::", stringify!($name), "`")]
                pub const $name: u16 = Position::$name as u16;
            )*
        }

        /// The calls' names by opcode.
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// A hash of every row of the table.
        pub const FINGERPRINT: u64 = fingerprint(&[$(
            concat!(stringify!($class), "|", stringify!($name), "|", $(stringify!($type), ",",)* "|", $(stringify!($answer))?)
        ),*]);
    };
}

cuda::driver_calls!(table);

/// FNV-1a over the rows without their spaces, which depend on the compiler's taste.
const fn fingerprint(rows: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut row = 0;
    while row < rows.len() {
        let bytes = rows[row].as_bytes();
        let mut position = 0;
        while position < bytes.len() {
            if bytes[position] != b' ' {
                hash = (hash ^ bytes[position] as u64).wrapping_mul(0x0100_0000_01b3);
            }
            position += 1;
        }
        hash = (hash ^ 0x0a).wrapping_mul(0x0100_0000_01b3);
        row += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_name_their_calls() {
        assert_eq!(NAMES[usize::from(opcode::launch)], "launch");
        assert!(NAMES.len() < usize::from(crate::frame::FIRST_OTHER));
    }

    #[test]
    fn the_fingerprint_sees_order_and_types_but_no_spaces() {
        let table = fingerprint(&["one_way|launch|&[u8],|", "round_trip|usage|Ordinal,|DeviceUsage"]);
        assert_eq!(table, fingerprint(&["one_way|launch|& [u8],|", "round_trip|usage|Ordinal,|DeviceUsage"]));
        assert_ne!(table, fingerprint(&["round_trip|usage|Ordinal,|DeviceUsage", "one_way|launch|&[u8],|"]));
        assert_ne!(table, fingerprint(&["one_way|launch|&[u8],u32,|", "round_trip|usage|Ordinal,|DeviceUsage"]));
    }
}
