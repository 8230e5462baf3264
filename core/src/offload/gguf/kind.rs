//! Types of metadata: their numbers in files, their widths, and what their bytes are.

use super::Value;

/// A type of metadata.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Scalar(Scalar),
    Text,
    Array,
}

/// A type of as many bytes as it says, or of one.
#[derive(Clone, Copy)]
pub(super) enum Scalar {
    Unsigned(u8),
    Signed(u8),
    Float32,
    Float64,
    Bool,
}

impl Kind {
    /// Returns the type of a number in files (`gguf_type` in `ggml/include/gguf.h`).
    pub(super) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Scalar(Scalar::Unsigned(1)),
            1 => Self::Scalar(Scalar::Signed(1)),
            2 => Self::Scalar(Scalar::Unsigned(2)),
            3 => Self::Scalar(Scalar::Signed(2)),
            4 => Self::Scalar(Scalar::Unsigned(4)),
            5 => Self::Scalar(Scalar::Signed(4)),
            6 => Self::Scalar(Scalar::Float32),
            7 => Self::Scalar(Scalar::Bool),
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::Scalar(Scalar::Unsigned(8)),
            11 => Self::Scalar(Scalar::Signed(8)),
            12 => Self::Scalar(Scalar::Float64),
            _ => return None,
        })
    }
}

impl Scalar {
    pub(super) fn width(self) -> u8 {
        match self {
            Self::Unsigned(width) | Self::Signed(width) => width,
            Self::Float32 => 4,
            Self::Float64 => 8,
            Self::Bool => 1,
        }
    }

    /// Returns whether it counts something.
    pub(super) fn is_whole(self) -> bool {
        match self {
            Self::Unsigned(_) | Self::Signed(_) | Self::Bool => true,
            Self::Float32 | Self::Float64 => false,
        }
    }

    /// Returns the value of its bytes, which are the lowest of these.
    pub(super) fn value(self, raw: u64) -> Value {
        match self {
            Self::Unsigned(_) => Value::Unsigned(raw),
            Self::Signed(width) => {
                // Moved to the top and back, so that its sign fills what is above.
                let above = 64_u32.saturating_sub(u32::from(width).saturating_mul(8));
                let number = raw.wrapping_shl(above).cast_signed().wrapping_shr(above);
                u64::try_from(number).map_or(Value::Signed(number), Value::Unsigned)
            }
            Self::Float32 => Value::Float(f64::from(f32::from_bits(u32::try_from(raw).unwrap_or_default()))),
            Self::Float64 => Value::Float(f64::from_bits(raw)),
            Self::Bool => Value::Bool(raw != 0),
        }
    }
}
