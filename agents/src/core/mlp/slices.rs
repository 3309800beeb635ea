//! A network on plain slices: the CPU path of [`Mlp`].
//!
//! Rows go through all layers in chunks that stay in the caches. No row influences another, and sums run over rows in
//! order, so that neither the chunks nor the number of rows shows in a result: acting on one observation gives
//! the bits that a pass over the whole batch gives.

use super::{Activation, Layer, Mlp};
use crate::core::kernels::{self, Sizes, Start};

/// Rows that go through all layers together.
const CHUNK: usize = 256;
/// Layers with fewer outputs get their weights' gradient transposed: tiles are this wide.
const NARROW: usize = 16;

/// Buffers of passes, kept between calls so that a pass does not allocate.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// Values of each layer, activated, `[B, outputs]`: the last are the network's outputs.
    values: Vec<Vec<f32>>,
    /// Gradient of the outputs, `[B, out]`.
    d_outputs: Vec<f32>,
    /// Weight matrices of one backward pass, transposed.
    transposed: Vec<f32>,
    /// Gradients, or tangents, of two successive layers, `[CHUNK, widest]`.
    front: Vec<f32>,
    back: Vec<f32>,
    /// Numbers of the rows that a backward pass takes.
    picked: Vec<usize>,
}

impl Workspace {
    /// The outputs of the last forward pass, `[B, out]`, and room for their gradient.
    pub fn outputs(&mut self) -> (&[f32], &mut [f32]) {
        let outputs = self.values.last().map_or(&[][..], Vec::as_slice);
        self.d_outputs.resize(outputs.len(), 0.0);
        (outputs, &mut self.d_outputs)
    }

    /// The outputs of the last forward pass, to be changed: no derivative looks at them.
    pub fn outputs_mut(&mut self) -> &mut [f32] {
        self.values.last_mut().map_or(&mut [], Vec::as_mut_slice)
    }
}

impl Mlp {
    /// Outputs `[B, out]` for inputs `x` `[B, in]`; `work` keeps what the derivatives need.
    pub fn forward_slices<'a>(&self, params: &[f32], x: &[f32], work: &'a mut Workspace) -> &'a [f32] {
        let inputs = self.layers[0].inputs;
        let rows = x.len() / inputs.max(1);
        work.values.resize_with(self.layers.len(), Vec::new);
        for (l, values) in self.layers.iter().zip(&mut work.values) {
            values.resize(rows * l.outputs, 0.0);
        }
        for (first, count) in chunks(rows) {
            for (i, l) in self.layers.iter().enumerate() {
                let (before, from_here) = work.values.split_at_mut(i);
                let x = if i == 0 { x } else { &before[i - 1] };
                let x = &x[first * l.inputs..(first + count) * l.inputs];
                let y = &mut from_here[0][first * l.outputs..(first + count) * l.outputs];
                let bias = Start::Row(&params[l.bias()..l.end()]);
                let sizes = Sizes { m: count, n: l.outputs, k: l.inputs };
                kernels::product(x, &params[l.offset..l.bias()], bias, y, sizes);
                if i + 1 < self.layers.len() {
                    match self.activation {
                        Activation::Tanh => kernels::tanh(y),
                        Activation::Relu => kernels::relu(y),
                    }
                }
            }
        }
        work.values.last().map_or(&[], Vec::as_slice)
    }

    /// Gradient `[P]` of Σ g ∘ outputs with respect to the parameters, into `grad`, after a forward pass on `x`
    /// with g `[B, out]` in [`Workspace::outputs`].
    pub fn vjp_slices(&self, params: &[f32], x: &[f32], work: &mut Workspace, grad: &mut [f32]) {
        let Workspace { values, d_outputs, transposed, front, back, .. } = work;
        let Some(out) = self.layers.last() else { return };
        let rows = d_outputs.len() / out.outputs.max(1);
        if rows == 0 {
            grad[..self.len()].fill(0.0);
        }
        // The inputs of the first layer need no gradient.
        self.transpose_weights(&self.layers[1..], params, transposed);
        let widest = self.widest();
        front.resize(CHUNK * widest, 0.0);
        back.resize(CHUNK * widest, 0.0);
        for (first, count) in chunks(rows) {
            let of = |width: usize| first * width..(first + count) * width;
            front[..count * out.outputs].copy_from_slice(&d_outputs[of(out.outputs)]);
            for (i, l) in self.layers.iter().enumerate().rev() {
                let x = if i == 0 { x } else { &values[i - 1] };
                let x = &x[of(l.inputs)];
                let g = &front[..count * l.outputs];
                let (d_weight, d_bias) = grad[l.offset..l.end()].split_at_mut(l.inputs * l.outputs);
                let start = if first == 0 { Start::Zero } else { Start::Current };
                if first == 0 {
                    d_bias.fill(0.0);
                }
                kernels::add_rows(g, d_bias);
                if l.is_narrow() {
                    let sizes = Sizes { m: l.outputs, n: l.inputs, k: count };
                    kernels::product_transposed(g, x, start, d_weight, sizes);
                } else {
                    let sizes = Sizes { m: l.inputs, n: l.outputs, k: count };
                    kernels::product_transposed(x, g, start, d_weight, sizes);
                }
                if i > 0 {
                    let weight = &transposed[l.offset..l.bias()];
                    let d_x = &mut back[..count * l.inputs];
                    let sizes = Sizes { m: count, n: l.inputs, k: l.outputs };
                    kernels::product(g, weight, Start::Zero, d_x, sizes);
                    self.times_slope(x, d_x);
                    std::mem::swap(front, back);
                }
            }
        }
        for l in self.layers.iter().filter(|l| l.is_narrow()) {
            let d_weight = &mut grad[l.offset..l.bias()];
            let narrow = &mut transposed[l.offset..l.bias()];
            narrow.copy_from_slice(d_weight);
            kernels::transpose(narrow, d_weight, l.outputs, l.inputs);
        }
    }

    /// Gradient `[B, in]` of Σ g ∘ outputs with respect to the inputs, into `d_x`, after a forward pass with g
    /// `[B, out]` in [`Workspace::outputs`]. Rows whose g is zero cost nothing.
    pub fn input_vjp_slices(&self, params: &[f32], work: &mut Workspace, d_x: &mut [f32]) {
        let Workspace { values, d_outputs, transposed, front, back, picked } = work;
        let (Some(first), Some(out)) = (self.layers.first(), self.layers.last()) else { return };
        self.transpose_weights(&self.layers, params, transposed);
        let widest = self.widest();
        front.resize(CHUNK * widest, 0.0);
        back.resize(CHUNK * widest, 0.0);
        d_x.fill(0.0);
        picked.clear();
        let rows = d_outputs.chunks_exact(out.outputs.max(1)).enumerate();
        picked.extend(rows.filter(|(_, g)| g.iter().any(|g| *g != 0.0)).map(|(row, _)| row));
        for picked in picked.chunks(CHUNK) {
            let of = |row: usize, width: usize| row * width..(row + 1) * width;
            for (i, row) in picked.iter().enumerate() {
                front[of(i, out.outputs)].copy_from_slice(&d_outputs[of(*row, out.outputs)]);
            }
            for (i, l) in self.layers.iter().enumerate().rev() {
                let g = &front[..picked.len() * l.outputs];
                let d_h = &mut back[..picked.len() * l.inputs];
                let sizes = Sizes { m: picked.len(), n: l.inputs, k: l.outputs };
                kernels::product(g, &transposed[l.offset..l.bias()], Start::Zero, d_h, sizes);
                if i > 0 {
                    for (d_h, row) in d_h.chunks_exact_mut(l.inputs).zip(picked) {
                        self.times_slope(&values[i - 1][of(*row, l.inputs)], d_h);
                    }
                }
                std::mem::swap(front, back);
            }
            for (d, row) in front.chunks_exact(first.inputs).zip(picked) {
                d_x[of(*row, first.inputs)].copy_from_slice(d);
            }
        }
    }

    /// Directional derivative of the outputs along `tangent` `[P]`, into the room of [`Workspace::outputs`],
    /// after a forward pass on `x`, which moves along `d_x` `[B, in]` or stands still.
    pub fn jvp_slices(
        &self,
        params: &[f32],
        x: &[f32],
        d_x: Option<&[f32]>,
        tangent: &[f32],
        work: &mut Workspace,
    ) {
        work.outputs();
        let Workspace { values, d_outputs, front, back, .. } = work;
        let Some(out) = self.layers.last() else { return };
        let rows = d_outputs.len() / out.outputs.max(1);
        let widest = self.widest();
        front.resize(CHUNK * widest, 0.0);
        back.resize(CHUNK * widest, 0.0);
        for (first, count) in chunks(rows) {
            let of = |width: usize| first * width..(first + count) * width;
            for (i, l) in self.layers.iter().enumerate() {
                let x = if i == 0 { x } else { &values[i - 1] };
                let x = &x[of(l.inputs)];
                let d_y = &mut back[..count * l.outputs];
                let sizes = Sizes { m: count, n: l.outputs, k: l.inputs };
                let bias = Start::Row(&tangent[l.bias()..l.end()]);
                kernels::product(x, &tangent[l.offset..l.bias()], bias, d_y, sizes);
                let weight = &params[l.offset..l.bias()];
                if i > 0 {
                    let d_x = &mut front[..count * l.inputs];
                    self.times_slope(x, d_x);
                    kernels::product(d_x, weight, Start::Current, d_y, sizes);
                } else if let Some(d_x) = d_x {
                    kernels::product(&d_x[of(l.inputs)], weight, Start::Current, d_y, sizes);
                }
                std::mem::swap(front, back);
            }
            d_outputs[of(out.outputs)].copy_from_slice(&front[..count * out.outputs]);
        }
    }

    /// `grad` times the derivative of the activation, from its values.
    fn times_slope(&self, values: &[f32], grad: &mut [f32]) {
        match self.activation {
            Activation::Tanh => kernels::tanh_backward(values, grad),
            Activation::Relu => kernels::relu_backward(values, grad),
        }
    }

    /// The weight matrices of these layers, `[out, in]`, each where the flat vector has it.
    fn transpose_weights(&self, layers: &[Layer], params: &[f32], transposed: &mut Vec<f32>) {
        transposed.resize(self.len(), 0.0);
        for l in layers {
            let range = l.offset..l.bias();
            kernels::transpose(&params[range.clone()], &mut transposed[range], l.inputs, l.outputs);
        }
    }

    fn widest(&self) -> usize {
        self.layers.iter().map(|l| l.inputs.max(l.outputs)).max().unwrap_or(0)
    }
}

impl Layer {
    fn is_narrow(&self) -> bool {
        self.outputs < NARROW && self.inputs >= NARROW
    }
}

/// First row and number of rows of each chunk.
fn chunks(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(CHUNK).map(move |first| (first, CHUNK.min(rows - first)))
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::core::device::{Device, to_host};
    use crate::core::testing::{close, normals};

    const SHAPES: [(usize, &[usize], usize); 7] = [
        (1, &[], 1),
        (3, &[8, 5], 2),
        (17, &[64, 64], 6),
        (20, &[16], 3),
        (18, &[], 2),
        (5, &[40, 3, 33], 17),
        (4, &[130], 1),
    ];
    const ROWS: [usize; 5] = [0, 1, 5, 64, 2 * CHUNK + 3];

    fn network(shape: (usize, &[usize], usize), activation: Activation) -> (Mlp, Vec<f32>) {
        let mlp = Mlp::new(shape.0, shape.1, shape.2, activation, &Device::cpu_tensors());
        let widest = shape.1.iter().copied().max().unwrap_or(1).max(shape.0) as f32;
        let params = normals(mlp.len(), 1).iter().map(|x| x / widest.sqrt()).collect();
        (mlp, params)
    }

    /// Outputs in `f64`, the textbook way.
    fn outputs(mlp: &Mlp, params: &[f64], x: &[f64]) -> Vec<f64> {
        let mut h = x.to_vec();
        for (i, l) in mlp.layers.iter().enumerate() {
            let row = |x: &[f64]| -> Vec<f64> {
                let unit = |o: usize| {
                    let sum: f64 = (0..l.inputs).map(|k| x[k] * params[l.offset + k * l.outputs + o]).sum();
                    sum + params[l.bias() + o]
                };
                (0..l.outputs).map(unit).collect()
            };
            h = h.chunks_exact(l.inputs).flat_map(row).collect();
            if i + 1 < mlp.layers.len() {
                match mlp.activation {
                    Activation::Tanh => h.iter_mut().for_each(|h| *h = h.tanh()),
                    Activation::Relu => h.iter_mut().for_each(|h| *h = h.max(0.0)),
                }
            }
        }
        h
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).collect()
    }

    #[test]
    fn passes_agree_with_the_tensors() {
        for shape in SHAPES {
            for rows in ROWS {
                for activation in [Activation::Tanh, Activation::Relu] {
                    let ((mlp, params), device) = (network(shape, activation), Device::cpu_tensors());
                    let (x, g) = (normals(rows * shape.0, 2), normals(rows * shape.2, 3));
                    let tangent = normals(mlp.len(), 4);
                    let mut work = Workspace::default();
                    let y = mlp.forward_slices(&params, &x, &mut work).to_vec();
                    let mut grad = vec![7.0; mlp.len()];
                    work.outputs().1.copy_from_slice(&g);
                    mlp.vjp_slices(&params, &x, &mut work, &mut grad);
                    mlp.jvp_slices(&params, &x, None, &tangent, &mut work);
                    let d_y = work.outputs().1.to_vec();
                    if rows == 0 {
                        assert!(y.is_empty() && d_y.is_empty() && grad.iter().all(|g| *g == 0.0));
                        continue;
                    }
                    let flat = device.vector(params.clone());
                    let (theirs, pass) = mlp.forward(&flat, device.matrix(x.clone(), shape.0));
                    close(&y, &to_host(theirs), 1e-5);
                    // Sums over many rows: relative to their size.
                    let theirs = to_host(mlp.vjp(&flat, &pass, device.matrix(g, shape.2)));
                    let size = theirs.iter().fold(1.0f32, |a, b| a.max(b.abs()));
                    let relative = |x: &[f32]| x.iter().map(|x| x / size).collect::<Vec<f32>>();
                    close(&relative(&grad), &relative(&theirs), 1e-5);
                    close(&d_y, &to_host(mlp.jvp(&flat, &pass, &device.vector(tangent))), 1e-5);
                }
            }
        }
    }

    #[test]
    fn derivatives_agree_with_finite_differences_in_f64() {
        const H: f64 = 1e-6;
        for shape in SHAPES {
            let (mlp, params) = network(shape, Activation::Tanh);
            let rows = 5;
            let (x, g) = (normals(rows * shape.0, 2), normals(rows * shape.2, 3));
            let direction = normals(mlp.len(), 4);
            let at = |move_by: &dyn Fn(usize) -> f64| {
                let moved: Vec<f64> = wide(&params).iter().enumerate().map(|(i, p)| p + move_by(i)).collect();
                outputs(&mlp, &moved, &wide(&x))
            };
            let mut work = Workspace::default();
            close(mlp.forward_slices(&params, &x, &mut work), &at(&|_| 0.0), 1e-5);
            let d_x = normals(x.len(), 5);
            mlp.jvp_slices(&params, &x, Some(&d_x), &direction, &mut work);
            let moved = |of: &[f32], by: &[f32], h: f64| -> Vec<f64> {
                of.iter().zip(by).map(|(x, d)| f64::from(*x) + h * f64::from(*d)).collect()
            };
            let along = |h: f64| outputs(&mlp, &moved(&params, &direction, h), &moved(&x, &d_x, h));
            let numeric: Vec<f64> =
                along(H).iter().zip(along(-H)).map(|(a, b)| (a - b) / (2.0 * H)).collect();
            close(work.outputs().1, &numeric, 1e-5);

            work.outputs().1.copy_from_slice(&g);
            let mut grad = vec![0.0; mlp.len()];
            mlp.vjp_slices(&params, &x, &mut work, &mut grad);
            // A row without gradient is passed over.
            let mut g = g;
            g[shape.2..2 * shape.2].fill(0.0);
            work.outputs().1.copy_from_slice(&g);
            let mut d_x = vec![7.0; x.len()];
            mlp.input_vjp_slices(&params, &mut work, &mut d_x);
            for i in (0..x.len()).step_by(1 + x.len() / 50) {
                let total = |h: f64| -> f64 {
                    let mut x = wide(&x);
                    x[i] += h;
                    let y = outputs(&mlp, &wide(&params), &x);
                    y.iter().zip(wide(&g)).map(|(y, g)| y * g).sum()
                };
                close(&[d_x[i]], &[(total(H) - total(-H)) / (2.0 * H)], 1e-5);
            }
            // Every parameter of the small networks, some of the others.
            let g = normals(rows * shape.2, 3);
            let total = |i: usize, h: f64| -> f64 {
                at(&|j| if i == j { h } else { 0.0 }).iter().zip(wide(&g)).map(|(y, g)| y * g).sum()
            };
            for i in (0..mlp.len()).step_by(1 + mlp.len() / 200) {
                close(&[grad[i]], &[(total(i, H) - total(i, -H)) / (2.0 * H)], 1e-5);
            }
        }
    }

    /// What makes results independent of chunks, copies and threads.
    #[test]
    fn a_row_gives_the_same_bits_alone_and_among_others() {
        for shape in SHAPES {
            let (mlp, params) = network(shape, Activation::Tanh);
            let x = normals((CHUNK + 7) * shape.0, 2);
            let mut work = Workspace::default();
            let all = mlp.forward_slices(&params, &x, &mut work).to_vec();
            for (x, y) in x.chunks_exact(shape.0).zip(all.chunks_exact(shape.2)) {
                assert_eq!(mlp.forward_slices(&params, x, &mut work), y);
            }
        }
    }
}
