//! Matrix products: tiles of sums that stay in vector registers, over strips of B that stay in the first cache.
//!
//! The tile is written once over [`Lanes`]; vectors are named rather than left to the compiler, which turned some of these
//! loops into gathers (AVX-512, tiles of 8 columns: 40 times slower).

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m256i, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskload_ps,
    _mm256_maskstore_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
};
use std::mem::MaybeUninit;

use super::dispatched;

/// Rows of B that a product takes at a time, so that they stay in the caches. Does not change a result.
const BLOCK: usize = 256;
/// Columns of B from which its rows lie so far apart that a strip of them shares a few sets of the first cache.
const SPREAD: usize = 128;
/// Rows of a tile of one vector: as many sums under way as the multiply-add units can take.
const TALL: usize = 12;
/// The most vectors side by side in a tile.
const BROAD: usize = 4;
/// The most lanes of a vector.
const LONGEST: usize = 16;

/// What a product adds to.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// Nothing.
    Zero,
    /// The same row everywhere, `[n]`.
    Row(&'a [f32]),
    /// What the result holds.
    Current,
}

/// Sizes of a product: rows and columns of the result, and length of its sums.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Rows.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
}

dispatched! {
    /// C = start + A B for A `[m, k]`, B `[k, n]`, C `[m, n]`; each sum takes its terms in order.
    pub fn product(a: &[f32], b: &[f32], start: Start, c: &mut [f32], sizes: Sizes) {
        blocked::<__m512, false, 12, 4>, blocked::<__m256, false, 6, 2>, blocked::<[f32; 8], false, 4, 1>
    }
}

dispatched! {
    /// C = start + Aᵀ B for A `[k, m]`, B `[k, n]`, C `[m, n]`; each sum takes its terms in order.
    pub fn product_transposed(a: &[f32], b: &[f32], start: Start, c: &mut [f32], sizes: Sizes) {
        blocked::<__m512, true, 12, 4>, blocked::<__m256, true, 6, 2>, blocked::<[f32; 8], true, 4, 1>
    }
}

/// A vector register.
///
/// # Safety
/// Of all functions: the processor has the vector's instructions, and pointers are good for as many elements as are moved.
trait Lanes: Copy {
    const COUNT: usize;
    unsafe fn load(from: *const f32) -> Self;
    /// The first elements, at most `COUNT`, and zeros.
    unsafe fn load_first(from: *const f32, elements: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_first(self, to: *mut f32, elements: usize);
    unsafe fn splat(x: f32) -> Self;
    /// self · by + plus, rounded once.
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self;
}

// SAFETY (of all three): the trait's.
#[cfg(target_arch = "x86_64")]
impl Lanes for __m512 {
    const COUNT: usize = 16;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, elements: usize) -> Self {
        unsafe { _mm512_maskz_loadu_ps(((1u32 << elements) - 1) as u16, from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, elements: usize) {
        unsafe { _mm512_mask_storeu_ps(to, ((1u32 << elements) - 1) as u16, self) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, by, plus) }
    }
}

/// Lanes from 8 − n on: a mask of the first n.
#[cfg(target_arch = "x86_64")]
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn first(elements: usize) -> __m256i {
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - elements).cast()) }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for __m256 {
    const COUNT: usize = 8;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, elements: usize) -> Self {
        unsafe { _mm256_maskload_ps(from, first(elements)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, elements: usize) {
        unsafe { _mm256_maskstore_ps(to, first(elements), self) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        unsafe { _mm256_fmadd_ps(self, by, plus) }
    }
}

/// Of processors without these: what the compiler makes of loops.
impl Lanes for [f32; 8] {
    const COUNT: usize = 8;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { from.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, elements: usize) -> Self {
        std::array::from_fn(|i| if i < elements { unsafe { *from.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, elements: usize) {
        for (i, x) in self.into_iter().enumerate().take(elements) {
            unsafe { *to.add(i) = x }
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        std::array::from_fn(|i| self[i].mul_add(by[i], plus[i]))
    }
}

/// Matrices of a product whose sums go over `k` rows of B: A with rows of `lda` (columns, if transposed), C with rows of `n`.
#[derive(Clone, Copy)]
struct Block<'a> {
    a: &'a [f32],
    lda: usize,
    start: Start<'a>,
    m: usize,
    n: usize,
    k: usize,
}

/// Cuts the sums into blocks and the columns into strips. Tiles have `M` rows of two vectors, or `S` rows of [`BROAD`] where there
/// are no more.
#[inline(always)]
fn blocked<L: Lanes, const T: bool, const M: usize, const S: usize>(
    a: &[f32],
    b: &[f32],
    start: Start,
    c: &mut [f32],
    sizes: Sizes,
) {
    let Sizes { m, n, k } = sizes;
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        for row in c.chunks_exact_mut(n) {
            match start {
                Start::Zero => row.fill(0.0),
                Start::Row(start) => row.copy_from_slice(start),
                Start::Current => {}
            }
        }
        return;
    }
    let lda = if T { m } else { k };
    let mut from = 0;
    while from < k {
        let start = if from == 0 { start } else { Start::Current };
        let block =
            Block { a: &a[if T { from * lda } else { from }..], lda, start, m, n, k: BLOCK.min(k - from) };
        let b = &b[from * n..];
        let far = n >= SPREAD && m >= 4 * M;
        let mut j = 0;
        while j < n {
            let (b, left) = (&b[j..], n - j);
            if m <= 2 * S && left >= BROAD * L::COUNT {
                strip::<L, T, S, BROAD, false>(block, b, n, c, j, BROAD * L::COUNT);
                j += BROAD * L::COUNT;
            } else if left > L::COUNT {
                let width = left.min(2 * L::COUNT);
                if far {
                    panel::<L, T, M, 2>(block, b, c, j, width);
                } else if width == 2 * L::COUNT {
                    strip::<L, T, M, 2, false>(block, b, n, c, j, width);
                } else {
                    strip::<L, T, M, 2, true>(block, b, n, c, j, width);
                }
                j += width;
            } else {
                strip::<L, T, TALL, 1, true>(block, b, n, c, j, left);
                j = n;
            }
        }
        from += BLOCK;
    }
}

/// A strip of `width` columns, at most `V` vectors, from a copy of B's: side by side, with zeros in the columns that are missing.
#[inline(always)]
fn panel<L: Lanes, const T: bool, const M: usize, const V: usize>(
    block: Block,
    b: &[f32],
    c: &mut [f32],
    j: usize,
    width: usize,
) {
    let columns = V * L::COUNT;
    assert!(V <= 2 && L::COUNT <= LONGEST && width <= columns && block.k <= BLOCK);
    let mut panel = [MaybeUninit::<f32>::uninit(); BLOCK * 2 * LONGEST];
    for (row, from) in panel.chunks_exact_mut(columns).zip(b.chunks(block.n)).take(block.k) {
        for (to, from) in row.iter_mut().zip(&from[..width]) {
            to.write(*from);
        }
        for to in &mut row[width..] {
            to.write(0.0);
        }
    }
    // SAFETY: these rows were written.
    let panel = unsafe { std::slice::from_raw_parts(panel.as_ptr().cast::<f32>(), block.k * columns) };
    strip::<L, T, M, V, false>(block, panel, columns, c, j, width);
}

/// Columns j to j + `width` of the result; of its `V` vectors, the last is partial in B if `P` (else B has numbers there, of no account).
#[inline(always)]
fn strip<L: Lanes, const T: bool, const M: usize, const V: usize, const P: bool>(
    block: Block,
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    j: usize,
    width: usize,
) {
    let mut i = 0;
    while i + M <= block.m {
        tile::<L, T, M, V, P>(block, b, ldb, c, i, j, width);
        i += M;
    }
    // The rows left: one alone would wait for its own sums.
    while M > 4 && i + 4 <= block.m {
        tile::<L, T, 4, V, P>(block, b, ldb, c, i, j, width);
        i += 4;
    }
    while M > 2 && i + 2 <= block.m {
        tile::<L, T, 2, V, P>(block, b, ldb, c, i, j, width);
        i += 2;
    }
    while i < block.m {
        tile::<L, T, 1, V, P>(block, b, ldb, c, i, j, width);
        i += 1;
    }
}

/// Rows i to i + `M` of the strip.
#[inline(always)]
fn tile<L: Lanes, const T: bool, const M: usize, const V: usize, const P: bool>(
    block: Block,
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    i: usize,
    j: usize,
    width: usize,
) {
    let Block { a, lda, start, n, k, .. } = block;
    let (a, c) = (&a[if T { i } else { i * lda }..], &mut c[i * n + j..]);
    let last = width - (V - 1) * L::COUNT;
    let columns = if P { width } else { V * L::COUNT };
    assert!(0 < last && last <= L::COUNT && columns <= ldb && k > 0);
    assert!(b.len() >= (k - 1) * ldb + columns && c.len() >= (M - 1) * n + width);
    assert!(a.len() >= if T { (k - 1) * lda + M } else { (M - 1) * lda + k });
    // SAFETY: these lengths, and the caller is compiled for L.
    unsafe {
        let load = |from: &[f32]| -> [L; V] {
            let from = from.as_ptr();
            std::array::from_fn(|v| {
                let from = from.add(v * L::COUNT);
                if v + 1 == V && last < L::COUNT { L::load_first(from, last) } else { L::load(from) }
            })
        };
        let mut sums = [[L::splat(0.0); V]; M];
        for (r, sums) in sums.iter_mut().enumerate() {
            match start {
                Start::Zero => {}
                Start::Row(row) => *sums = load(&row[j..j + width]),
                Start::Current => *sums = load(&c[r * n..r * n + width]),
            }
        }
        for p in 0..k {
            let b = b.as_ptr().add(p * ldb);
            let y: [L; V] = std::array::from_fn(|v| {
                let b = b.add(v * L::COUNT);
                if P && v + 1 == V { L::load_first(b, last) } else { L::load(b) }
            });
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = L::splat(*a.as_ptr().add(if T { p * lda + r } else { r * lda + p }));
                for (sum, y) in sums.iter_mut().zip(y) {
                    *sum = x.mul_add(y, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let to = c[r * n..r * n + width].as_mut_ptr();
            for (v, sum) in sums.iter().enumerate() {
                let to = to.add(v * L::COUNT);
                if v + 1 == V && last < L::COUNT { sum.store_first(to, last) } else { sum.store(to) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::transpose;
    use super::*;
    use proptest::prelude::*;

    type Product = fn(&[f32], &[f32], Start, &mut [f32], Sizes);

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn avx512<const T: bool>(a: &[f32], b: &[f32], start: Start, c: &mut [f32], sizes: Sizes) {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn compiled<const T: bool>(a: &[f32], b: &[f32], start: Start, c: &mut [f32], sizes: Sizes) {
            blocked::<__m512, T, 12, 4>(a, b, start, c, sizes);
        }
        // SAFETY: called where the processor has these.
        unsafe { compiled::<T>(a, b, start, c, sizes) }
    }

    #[cfg(target_arch = "x86_64")]
    fn avx2<const T: bool>(a: &[f32], b: &[f32], start: Start, c: &mut [f32], sizes: Sizes) {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<const T: bool>(a: &[f32], b: &[f32], start: Start, c: &mut [f32], sizes: Sizes) {
            blocked::<__m256, T, 6, 2>(a, b, start, c, sizes);
        }
        // SAFETY: called where the processor has these.
        unsafe { compiled::<T>(a, b, start, c, sizes) }
    }

    proptest! {
        #[test]
        fn products_agree_with_sums_in_f64(
            m in 0usize..60, n in 0usize..150, k in 0usize..40, long in prop::bool::weighted(0.1), start in 0usize..3,
        ) {
            let k = if long { k + 2 * BLOCK } else { k };
            let (a, b, row, c) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3), numbers(m * n, 4));
            let begin = match start {
                0 => Start::Zero,
                1 => Start::Row(&row),
                _ => Start::Current,
            };
            let sizes = Sizes { m, n, k };
            let (mut rows, mut columns) = (c.clone(), c.clone());
            product(&a, &b, begin, &mut rows, sizes);
            let mut a_transposed = vec![0.0; m * k];
            transpose(&a, &mut a_transposed, m, k);
            product_transposed(&a_transposed, &b, begin, &mut columns, sizes);
            // Either reading of A gives the same bits.
            prop_assert_eq!(&rows, &columns);
            for i in 0..m {
                for j in 0..n {
                    let first = match start { 0 => 0.0, 1 => row[j], _ => c[i * n + j] };
                    let term = |p: usize| f64::from(a[i * k + p]) * f64::from(b[p * n + j]);
                    let sum = f64::from(first) + (0..k).map(term).sum::<f64>();
                    let size = 1.0 + (0..k).map(|p| term(p).abs()).sum::<f64>();
                    prop_assert!((f64::from(rows[i * n + j]) - sum).abs() < 1e-6 * size);
                }
            }
            // The promise of these kernels: another instruction set, the same bits.
            let others: &[(bool, Product, Product)] = &[
                #[cfg(target_arch = "x86_64")]
                (super::super::has_avx512(), avx512::<false>, avx512::<true>),
                #[cfg(target_arch = "x86_64")]
                (super::super::has_avx2(), avx2::<false>, avx2::<true>),
                (true, blocked::<[f32; 8], false, 4, 1>, blocked::<[f32; 8], true, 4, 1>),
            ];
            for (_, product, transposed) in others.iter().filter(|other| other.0) {
                let mut other = c.clone();
                product(&a, &b, begin, &mut other, sizes);
                prop_assert_eq!(&rows, &other);
                let mut other = c.clone();
                transposed(&a_transposed, &b, begin, &mut other, sizes);
                prop_assert_eq!(&rows, &other);
            }
        }
    }
}
