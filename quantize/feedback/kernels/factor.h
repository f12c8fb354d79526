// The factor of a matrix of second moments: H = A · D · Aᵀ with A unit upper triangular and D diagonal, in float32.
//
// A is kept transposed: row k of `a` holds column k of A, that is A(0 … k, k). Blocks of DEPTH columns are factored from the
// last to the first: `factor_block` the block on the diagonal, `factor_strip` its rows left of that, a strip of columns
// each, `subtract_block` what they take from the rows above, a block of rows each. Strips are independent of one another,
// and so are blocks of rows. Every element loses its products in descending order of k.
//
// float32 suffices: the diagonal is never less than it was plus the damping, and correlations are shrunk, so that the matrix
// scaled to a diagonal of 1 has no eigenvalue below α, where errors are of the order of √n × 2⁻²⁴ (a matrix that breaks down
// is told). See docs/benchmarks.md for the difference from float64.

#pragma once

#include "products.h"
#include "variant.h"

namespace {

using feedback::Factor;

// Rows [first, first + DEPTH) of the shrunk H, (n, n) floats, in the order of `order`, up to their block's last column.
inline void shrink_rows(const float* h, const int32_t* order, float keep, float damping, int64_t first, Factor f) {
    for (int64_t j = first; j < first + DEPTH; ++j)
        for (int64_t i = 0; i < first + DEPTH; ++i) {
            const float moment = h[order[j] * f.n + order[i]];
            f.a[j * f.row + i] = i == j ? moment + damping : moment * keep;
        }
}

// Factor the block on the diagonal at column `first`; false if the matrix is not positive definite.
inline bool factor_block(Factor f, int64_t first) {
    float raw[DEPTH];
    for (int64_t k = first + DEPTH - 1; k >= first; --k) {
        float* row = f.a + k * f.row + first;
        const int64_t n = k - first;
        const float d = row[n];
        if (!(d > 0 && d < 0x1p126f)) return false;
        f.d[k] = d;
        for (int64_t i = 0; i < n; ++i) {
            raw[i] = row[i];
            row[i] /= d;
        }
        row[n] = 1;
        for (int64_t i = n + 1; i < DEPTH; ++i) row[i] = 0;
        for (int64_t j = 0; j < n; ++j) {
            float* other = f.a + (first + j) * f.row + first;
            for (int64_t i = 0; i <= j; ++i) other[i] -= row[j] * raw[i];
        }
    }
    return true;
}

// -A(j … j + TALL, k) of `depth` columns from `k` downwards, as the left side of a product.
inline Left negated(Factor f, int64_t j, int64_t k, int64_t depth, float* to) {
    for (int64_t i = 0; i < depth; ++i)
        for (int m = 0; m < TALL; ++m) to[i * TALL + m] = -f.a[(k - i) * f.row + j + m];
    return {to, 1, TALL};
}

// Rows of the block at `first`, in the strip of columns that begins at `column`, left of the diagonal.
inline void factor_strip(Factor f, int64_t first, int64_t column) {
    const int64_t left = first - column, columns = left < STRIP ? left : STRIP, last = first + DEPTH - 1;
    float* raw = in_strips(f.raw, 0, column);  // the last row first: in the order of sums
    float pack[DEPTH * TALL];
    for (int64_t j = last + 1 - TALL; j >= first; j -= TALL) {
        const int64_t depth = last + 1 - TALL - j;
        add_product(TALL, columns, depth, negated(f, j, last, depth, pack), raw, f.a + j * f.row + column, f.row);
        for (int64_t k = j + TALL - 1; k >= j; --k) {
            float *row = f.a + k * f.row, *kept = raw + (last - k) * STRIP;
            for (int64_t i = 0; i < columns; ++i) kept[i] = row[column + i];
            for (int64_t above = j; above < k; ++above)
                for (int64_t i = 0; i < columns; ++i) f.a[above * f.row + column + i] -= row[above] * kept[i];
        }
    }
    for (int64_t k = first; k <= last; ++k)
        for (int64_t i = 0; i < columns; ++i) f.a[k * f.row + column + i] = raw[(last - k) * STRIP + i] / f.d[k];
}

// All strips that begin in [begin, end); `begin` is any column, and of strips it is rounded to the next one.
inline void factor_strips(Factor f, int64_t first, int64_t begin, int64_t end) {
    for (int64_t column = (begin + STRIP - 1) / STRIP * STRIP; column < end; column += STRIP)
        factor_strip(f, first, column);
}

// Subtract the products of the block at `first` from the block of rows at `above`.
inline void subtract_block(Factor f, int64_t first, int64_t above) {
    constexpr int SOME = 64;
    float pack[SOME * DEPTH];
    const int64_t end = above + DEPTH;
    for (int64_t j = above; j < end; j += SOME) {
        for (int m = 0; m < SOME; m += TALL) negated(f, j + m, first + DEPTH - 1, DEPTH, pack + m * DEPTH);
        for (int64_t column = 0; column < end; column += STRIP) {
            const int64_t columns = end - column < STRIP ? end - column : STRIP;
            for (int m = 0; m < SOME; m += TALL)
                if (j + m + TALL > column)
                    add_product(TALL, columns, DEPTH, {pack + m * DEPTH, 1, TALL}, in_strips(f.raw, 0, column),
                                f.a + (j + m) * f.row + column, f.row);
        }
    }
}

}  // namespace
