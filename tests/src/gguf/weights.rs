//! The numbers of a model that nobody trained: small ones by chance, norms of 1.

use std::io::{self, Write};

use nixmox_core::offload::gguf::Tensor;

use crate::random::Random;

/// Half-precision numbers 1, 2^-8, 2^-12 and 2^-14.
const ONE: u16 = 0x3c00;
const SCALE_4_BITS: u16 = 0x1c00;
const SCALE_8_BITS: u16 = 0x0c00;
const SCALE_NESTED: u16 = 0x0400;

/// Exponent byte of 2^-9, as MXFP4 has it.
const MXFP4_EXPONENT: u8 = 118;

/// Writes the weights of a tensor.
pub(super) fn write(to: &mut impl Write, tensor: &Tensor, random: &mut Random) -> io::Result<()> {
    let is_norm = tensor.name.contains("norm");
    let numbers: u64 = tensor.shape.iter().product();
    match tensor.kind.name() {
        "F32" => (0..numbers)
            .try_for_each(|_| to.write_all(&if is_norm { 1.0_f32 } else { small(random) }.to_le_bytes())),
        "F16" => (0..numbers).try_for_each(|_| {
            let number = if is_norm { ONE } else { half(random) };
            to.write_all(&number.to_le_bytes())
        }),
        "BF16" => (0..numbers).try_for_each(|_| {
            let number = if is_norm { 1.0 } else { small(random) };
            // The upper half of 32 bits.
            to.write_all(number.to_le_bytes().get(2..).unwrap_or_default())
        }),
        _ => blocks(to, tensor, random),
    }
}

/// Writes blocks of any bits, with scales that keep their numbers small. Types whose scales are not known here are all 0.
fn blocks(to: &mut impl Write, tensor: &Tensor, random: &mut Random) -> io::Result<()> {
    let kind = tensor.kind;
    let bytes = usize::try_from(kind.block_bytes()).unwrap_or(0);
    let (scales, scale): (&[usize], u16) = match kind.name() {
        "Q4_0" | "Q5_0" | "IQ4_NL" => (&[0], SCALE_4_BITS),
        "Q4_1" | "Q5_1" => (&[0, 2], SCALE_4_BITS),
        "Q8_0" => (&[0], SCALE_8_BITS),
        "Q4_K" | "Q5_K" => (&[0, 2], SCALE_NESTED),
        "Q2_K" => (&[80, 82], SCALE_NESTED),
        "Q3_K" => (&[108], SCALE_NESTED),
        "Q6_K" => (&[208], SCALE_NESTED),
        "IQ4_XS" => (&[0], SCALE_NESTED),
        _ => (&[], 0),
    };
    let is_mxfp4 = kind.name() == "MXFP4";
    let mut block = vec![0; bytes];
    for _ in 0..tensor.bytes / kind.block_bytes() {
        if is_mxfp4 || !scales.is_empty() {
            for chunk in block.chunks_mut(8) {
                let bits = random.bits().to_le_bytes();
                chunk.iter_mut().zip(bits).for_each(|(byte, chance)| *byte = chance);
            }
        }
        for at in scales {
            if let Some(place) = block.get_mut(*at..at + 2) {
                place.copy_from_slice(&scale.to_le_bytes());
            }
        }
        if let (true, Some(exponent)) = (is_mxfp4, block.first_mut()) {
            *exponent = MXFP4_EXPONENT;
        }
        to.write_all(&block)?;
    }
    Ok(())
}

/// Returns a number between -0.03 and 0.03.
fn small(random: &mut Random) -> f32 {
    let part = u16::try_from(random.below(60_001)).unwrap_or(0);
    f32::from(part) / 1e6 - 0.03
}

/// Returns a half-precision number of that size: any sign and fraction, and an exponent from -12 to -6.
fn half(random: &mut Random) -> u16 {
    let exponent = u16::try_from(random.below(7)).unwrap_or(0) + 3;
    let bits = u16::try_from(random.below(1 << 11)).unwrap_or(0);
    (bits & 0x400) << 5 | exponent << 10 | bits & 0x3ff
}
