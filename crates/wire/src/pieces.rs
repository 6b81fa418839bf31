//! Cutting a strided copy into pieces of bounded size.

use cuda::Region;

/// A part of a region, and where its bytes lie in the packed host buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The part.
    pub region: Region,
    /// Offset of its first byte in the packed bytes of the whole region.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// Cuts a region into pieces of at most `limit` bytes, in the order of the packed bytes. A region whose bytes or
/// addresses overflow has none.
pub fn pieces(region: Region, limit: u64) -> impl Iterator<Item = Piece> {
    let total = region.bytes().unwrap_or(0);
    let linear = region.is_linear();
    let mut offset = 0;
    std::iter::from_fn(move || {
        let left = total.checked_sub(offset).filter(|left| *left > 0)?;
        let piece = if linear {
            let length = left.min(limit);
            Region::linear(region.address.checked_add(offset)?, length)
        } else {
            let (line, within) = (offset / region.width, offset % region.width);
            let (slice, row) = (line / region.rows, line % region.rows);
            let start = slice
                .checked_mul(region.slice_pitch)?
                .checked_add(row.checked_mul(region.row_pitch)?)?
                .checked_add(within)?
                .checked_add(region.address)?;
            let rows = (limit / region.width).min(region.rows - row);
            if within > 0 || rows == 0 {
                Region::linear(start, (region.width - within).min(limit))
            } else {
                Region { address: start, rows, slices: 1, slice_pitch: 0, ..region }
            }
        };
        let length = piece.bytes()?;
        let result = Piece { region: piece, offset, length };
        offset += length;
        Some(result)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of all bytes of a region, in packed order.
    fn addresses(region: Region) -> Vec<u64> {
        let mut all = Vec::new();
        for slice in 0..region.slices {
            for row in 0..region.rows {
                let start = region.address + slice * region.slice_pitch + row * region.row_pitch;
                all.extend(start..start + region.width);
            }
        }
        all
    }

    #[test]
    fn pieces_cover_the_region_in_order() {
        let shapes = [
            Region::linear(1000, 10),
            Region { address: 50, width: 7, rows: 5, row_pitch: 16, slices: 3, slice_pitch: 100 },
            Region { address: 0, width: 4, rows: 4, row_pitch: 4, slices: 2, slice_pitch: 64 },
            Region { address: 0, width: 4, rows: 4, row_pitch: 4, slices: 2, slice_pitch: 16 },
        ];
        for region in shapes {
            for limit in 1..40 {
                let mut all = Vec::new();
                for piece in pieces(region, limit) {
                    assert_eq!(piece.offset, all.len() as u64);
                    assert!(piece.length <= limit && piece.length > 0);
                    all.extend(addresses(piece.region));
                    assert_eq!(piece.offset + piece.length, all.len() as u64);
                }
                assert_eq!(all, addresses(region), "{region:?} by {limit}");
            }
        }
    }

    #[test]
    fn an_impossible_region_has_no_pieces() {
        let region = Region { address: 0, width: 1 << 40, rows: 1 << 40, row_pitch: 1, slices: 1, slice_pitch: 0 };
        assert_eq!(pieces(region, 1).count(), 0);
        let empty = Region { address: 0, width: 0, rows: u64::MAX, row_pitch: 1, slices: 1, slice_pitch: 0 };
        assert_eq!(pieces(empty, 1).count(), 0);
        let edge = Region { address: u64::MAX - 1, width: 1, rows: 9, row_pitch: 8, slices: 1, slice_pitch: 0 };
        assert_eq!(pieces(edge, 1).count(), 1);
    }
}
