// y + B·A, of few inner products: what an adapter of low rank adds to rows of weights.

#pragma once

#include "lanes.h"

namespace {

constexpr int TILE_ROWS = 4, TILE_COLUMNS = 2 * WIDTH;

// The products of N rows with TILE_COLUMNS columns, in registers; each sum in the order of k.
template <int N>
inline void add_tile(float* y, const float* b, const float* a, int64_t rank, int64_t row) {
    Floats left[N] = {}, right[N] = {};
    for (int64_t k = 0; k < rank; ++k, a += row) {
        const Floats a_left = load(a), a_right = load(a + WIDTH);
#pragma GCC unroll 4
        for (int i = 0; i < N; ++i) {
            left[i] += b[i * rank + k] * a_left;
            right[i] += b[i * rank + k] * a_right;
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i, y += row) {
        store(y, load(y) + left[i]);
        store(y + WIDTH, load(y + WIDTH) + right[i]);
    }
}

template <int N>
inline void add_rows(float* y, const float* b, const float* a, int64_t rank, int64_t row) {
    int64_t column = 0;
    for (; column + TILE_COLUMNS <= row; column += TILE_COLUMNS) add_tile<N>(y + column, b, a + column, rank, row);
    for (; column < row; ++column)
        for (int i = 0; i < N; ++i) {
            float sum = 0;
            for (int64_t k = 0; k < rank; ++k) sum += b[i * rank + k] * a[k * row + column];
            y[i * row + column] += sum;
        }
}

// (n, row) += (n, rank) · (rank, row), all one row behind the other.
inline void add_low_rank(float* y, const float* b, const float* a, int64_t n, int64_t rank, int64_t row) {
    for (; n >= TILE_ROWS; n -= TILE_ROWS, y += TILE_ROWS * row, b += TILE_ROWS * rank)
        add_rows<TILE_ROWS>(y, b, a, rank, row);
    for (; n > 0; --n, y += row, b += rank) add_rows<1>(y, b, a, rank, row);
}

}  // namespace
