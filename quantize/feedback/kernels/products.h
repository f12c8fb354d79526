// Products of matrices in a fixed order of sums: every element of the result adds its products one after the other, in the
// order of the inner index, with one rounding an operation. So results do not depend on the width of vectors, on tiles, nor
// on how rows are split among threads. A processor with two units for products and two for sums, as all since Zen and
// Skylake-X have them in effect, loses little by leaving fused operations alone.

#pragma once

#include "quantize/lanes/lanes.h"

namespace {

constexpr int TALL = 4;              // rows of a tile that is held in registers
constexpr int WIDE = 3;              // its vectors
constexpr int STRIP = WIDE * WIDTH;  // columns of a strip
constexpr int DEPTH = 256;           // columns that are handled together, as many as a super-block has

// Factors on the left: element (m, k) lies at first + m × by_m + k × by_k.
struct Left {
    const float* first;
    int64_t by_m, by_k;
};

// c, (TALL, N vectors), += a · b; b has a row of STRIP floats for each k.
template <int N>
inline void add_tile(Left a, const float* b, int64_t depth, float* c, int64_t c_row) {
    Floats sums[TALL][N];
#pragma GCC unroll 4
    for (int m = 0; m < TALL; ++m)
#pragma GCC unroll 4
        for (int i = 0; i < N; ++i) sums[m][i] = load(c + m * c_row + i * WIDTH);
    const float* from[TALL];
    for (int m = 0; m < TALL; ++m) from[m] = a.first + m * a.by_m;
    for (int64_t k = 0; k < depth; ++k, b += STRIP) {
        Floats right[N];
#pragma GCC unroll 4
        for (int i = 0; i < N; ++i) right[i] = load(b + i * WIDTH);
#pragma GCC unroll 4
        for (int m = 0; m < TALL; ++m) {
            const Floats left = broadcast(from[m][k * a.by_k]);
#pragma GCC unroll 4
            for (int i = 0; i < N; ++i) sums[m][i] += left * right[i];
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < TALL; ++m)
#pragma GCC unroll 4
        for (int i = 0; i < N; ++i) store(c + m * c_row + i * WIDTH, sums[m][i]);
}

// Matrices of up to DEPTH rows are kept in strips of columns, so that a tile reads what lies together: strip by strip, a
// row of STRIP floats for each of DEPTH rows.
inline float* in_strips(float* strips, int64_t row, int64_t column) {
    return strips + column / STRIP * (STRIP * DEPTH) + row * STRIP + column % STRIP;
}

// c, (rows, columns), += a · b, in strips; rows must be a multiple of TALL, columns one of WIDTH.
inline void add_product(int64_t rows, int64_t columns, int64_t depth, Left a, const float* b, float* c, int64_t c_row) {
    for (int64_t m = 0; m < rows; m += TALL) {
        const Left some = {a.first + m * a.by_m, a.by_m, a.by_k};
        float* at = c + m * c_row;
        const float* strip = b;
        int64_t i = 0;
        for (; i + STRIP <= columns; i += STRIP, strip += STRIP * DEPTH) add_tile<WIDE>(some, strip, depth, at + i, c_row);
        if (columns - i == 2 * WIDTH) add_tile<2>(some, strip, depth, at + i, c_row);
        if (columns - i == WIDTH) add_tile<1>(some, strip, depth, at + i, c_row);
    }
}

}  // namespace
