//! Rotary position embedding (Su et al. 2021, eq. 34) in half-split order, as Hugging Face's LLaMA stores its weights.
//! Legend: n tokens, H heads, D head size.
//!
//! The pair (low, high) of channels (i, i + D/2) of a token at position p turns by a = p · frequency, theta^(−2i/D) where it is not
//! scaled: low cos a − high sin a and high cos a + low sin a, times the frequencies' factor. Nothing is kept for the backward
//! pass, which turns by −a and multiplies by the same factor.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use candle_core::{D, Tensor};

use super::element::Element;
use crate::error::Result;

pub use self::frequencies::Frequencies;
pub use self::table::{Table, table};

mod frequencies;
mod table;

/// Which way [`turn`] turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Direction {
    /// By a: the forward pass.
    Forward,
    /// By −a: the gradient of the result becomes that of the operand.
    Backward,
}

/// Turns in place the first `heads` heads of D = `size` channels of every token: x (n, stride), positions (n,), each below
/// the table's number of positions.
pub fn turn<T: Element>(
    x: &mut [T],
    stride: usize,
    (heads, size): (usize, usize),
    positions: &[u32],
    table: &Table,
    direction: Direction,
) {
    let half = size / 2;
    let (mut cos, mut sin) = (vec![T::zero(); half], vec![T::zero(); half]);
    let sign = if direction == Direction::Forward {
        1.0
    } else {
        -1.0
    };
    for (x, &position) in x.chunks_exact_mut(stride).zip(positions) {
        let row = table.row(position);
        for i in 0..half {
            cos[i] = T::from_f64(row[i]);
            sin[i] = T::from_f64(row[half + i] * sign);
        }
        for head in x[..heads * size].chunks_exact_mut(size) {
            let (low, high) = head.split_at_mut(half);
            let by = cos.iter().zip(&sin);
            for ((low, high), (&cos, &sin)) in low.iter_mut().zip(high).zip(by) {
                let (l, h) = (*low, *high);
                *low = l.fma(cos, -(h * sin));
                *high = h.fma(cos, l * sin);
            }
        }
    }
}

/// The same by plain tensor operations: x (n, H, D), positions (n,) → (n, H, D).
pub fn reference(x: &Tensor, positions: &[u32], frequencies: &Frequencies) -> Result<Tensor> {
    let half = frequencies.of.len();
    let angles: Vec<f64> = positions
        .iter()
        .flat_map(|&position| {
            let all = frequencies.of.iter();
            all.map(move |frequency| f64::from(position) * frequency)
        })
        .collect();
    let angles = Tensor::from_vec(angles, (positions.len(), 1, half), x.device())?;
    let cos = (angles.cos()? * frequencies.factor)?.to_dtype(x.dtype())?;
    let sin = (angles.sin()? * frequencies.factor)?.to_dtype(x.dtype())?;
    let low = x.narrow(D::Minus1, 0, half)?;
    let high = x.narrow(D::Minus1, half, half)?;
    let rotated_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let rotated_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    Ok(Tensor::cat(&[rotated_low, rotated_high], D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{
        Operation, assert_close, assert_gradients, test_device, wave,
    };
    use super::*;
    use crate::device::Device;
    #[cfg(feature = "cuda")]
    use {
        super::super::gradient_check::with_gpus,
        crate::device::{Buffer, Gpu, Real},
        std::sync::Arc,
    };

    const THETA: f64 = 10_000.0;

    struct Rope {
        positions: Vec<u32>,
        heads: usize,
        size: usize,
        /// What cosines and sines are multiplied by.
        factor: f64,
    }

    impl Rope {
        fn frequencies(&self) -> Frequencies {
            Frequencies {
                factor: self.factor,
                ..Frequencies::new(THETA, self.size / 2)
            }
        }

        fn turned<T: Element>(&self, x: &[T], direction: Direction) -> Vec<T> {
            let mut x = x.to_vec();
            let longest = self.positions.iter().max().map_or(0, |&p| p as usize + 1);
            let table = table(&self.frequencies(), longest);
            let heads = (self.heads, self.size);
            let stride = self.heads * self.size;
            turn(&mut x, stride, heads, &self.positions, &table, direction);
            x
        }

        /// The same on a GPU, with one channel behind the heads of every token, which stays.
        #[cfg(feature = "cuda")]
        fn turned_on(&self, gpu: &Arc<Gpu>, x: &[f32], way: Direction) -> Result<Vec<f32>> {
            let stride = self.heads * self.size;
            let rows = x.chunks(stride);
            let wide: Vec<f32> = rows.flat_map(|row| [row, &[7.0]].concat()).collect();
            let longest = self.positions.iter().max().map_or(0, |&p| p as usize + 1);
            let table = cuda::device_table(gpu, &self.frequencies(), longest)?;
            let positions: Vec<i32> = self.positions.iter().map(|&p| p as i32).collect();
            let positions = Buffer::upload(gpu, &positions)?;
            let mut out = Vec::new();
            for (x, width) in [(x, stride), (&wide, stride + 1)] {
                let mut x = Buffer::upload_real(gpu, x)?;
                let heads = (width, self.heads);
                cuda::turn(gpu, x.view_mut(), heads, positions.view(), &table, way)?;
                out.push(x.download_real()?);
            }
            for (wide, tight) in out[1].chunks(stride + 1).zip(out[0].chunks(stride)) {
                assert_eq!(wide, [tight, &[7.0]].concat());
            }
            Ok(out.swap_remove(0))
        }
    }

    impl Operation for Rope {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            self.turned(&inputs[0], Direction::Forward)
        }

        fn backward<T: Element>(&self, _: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            vec![self.turned(grad, Direction::Backward)]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            let shape = (self.positions.len(), self.heads, self.size);
            reference(
                &inputs[0].reshape(shape)?,
                &self.positions,
                &self.frequencies(),
            )
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            self.turned_on(gpu, &inputs[0].download_real()?, Direction::Forward)
        }

        #[cfg(feature = "cuda")]
        fn backward_on(
            &self,
            gpu: &Arc<Gpu>,
            _: &[Buffer<Real>],
            grad: &[f32],
        ) -> Result<Vec<Vec<f32>>> {
            Ok(vec![self.turned_on(gpu, grad, Direction::Backward)?])
        }
    }

    /// x = sin(1.7 i + 0.5) as (2, 1, 4) at positions 3 and 7: `x * cos + rotate_half(x) * sin` of transformers in f64.
    #[test]
    fn agrees_with_transformers() {
        let rope = Rope {
            positions: vec![3, 7],
            heads: 1,
            size: 4,
            factor: 1.0,
        };
        let expected = [
            -0.377_570_119_969_441_9,
            0.827_067_766_287_934_3,
            0.748_539_872_879_772_9,
            -0.606_731_335_145_401_5,
            1.269_642_471_022_620_6,
            0.422_692_034_737_619_85,
            -0.162_483_832_537_176_8,
            -0.136_373_870_566_341_23,
        ];
        assert_close(&rope.forward(&[wave(8, 0.5)]), &expected, 1e-12);
    }

    fn gradients(device: &Device) -> Result<()> {
        let few = Rope {
            positions: vec![0, 1, 2, 40],
            heads: 3,
            size: 6,
            factor: 1.25,
        };
        assert_gradients(device, &few, &[wave(72, 0.1)])?;
        for (tokens, heads, size) in [(70, 2, 8), (257, 3, 64), (1, 1, 64)] {
            let many = Rope {
                positions: (0..tokens).map(|i| i * 7 % 500).collect(),
                heads,
                size,
                factor: if heads == 3 { 1.2 } else { 1.0 },
            };
            let count = tokens as usize * heads * size;
            assert_gradients(device, &many, &[wave(count, 0.1)])?;
        }
        Ok(())
    }

    test_device!(gradients, gradients_on_cpu, gradients_on_cuda);

    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_turns_nothing() -> Result<()> {
        with_gpus(|gpu| {
            let none = Rope {
                positions: Vec::new(),
                heads: 2,
                size: 8,
                factor: 1.0,
            };
            assert_gradients(&Device::Cuda(gpu.clone()), &none, &[Vec::new()])
        })
    }

    #[test]
    fn channels_behind_the_heads_stay() {
        let mut x = vec![1.0f32; 10];
        let table = table(&Frequencies::new(THETA, 2), 3);
        turn(&mut x, 5, (1, 4), &[1, 2], &table, Direction::Forward);
        assert_eq!((x[4], x[9]), (1.0, 1.0));
        assert!(x[0] != 1.0 && x[5] != 1.0);
    }
}
