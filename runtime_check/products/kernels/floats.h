// Weights that are floats: F32, F16 and BF16, widened and multiplied in float32. Activations are not rounded: ggml rounds
// them to the type of the weights.

#pragma once

#include "fetch.h"
#include "panels.h"

namespace {

constexpr int FLOATS = 128;  // weights that are decoded at once

struct FloatColumn {
    float x[FLOATS];
};

// Weights of ROWS rows, one row in each lane.
struct FloatPanel {
    Floats levels[FLOATS];

    template <int N>
    void put(int first, const Floats* some) {
        for (int i = 0; i < N; ++i) levels[first + i] = some[i];
    }
    void clear(int first) { memset(levels + first, 0, (FLOATS - first) * sizeof *levels); }
};

// At most FLOATS floats of a column; the others count as 0.
inline void copy_floats(const float* x, int n, products::FromFloat, void* column) {
    memcpy(column, x, n * sizeof(float));
    memset((float*)column + n, 0, (FLOATS - n) * sizeof(float));
}

struct FloatF32 {
    using Stored = float;
    static void widen(const Ints* four, Floats* out) { memcpy(out, four, 4 * sizeof *out); }
    static Floats load(const void* weights) {
        Floats some;
        memcpy(&some, weights, sizeof some);
        return some;
    }
};

// Two in each lane.
struct FloatF16 {
    using Stored = uint16_t;
    static void widen(const Ints* four, Floats* out) {
        for (int i = 0; i < 4; i += 2) {
            widen_two(four[i], four[i + 1], out[2 * i], out[2 * i + 2]);
            widen_two(four[i] >> 16, four[i + 1] >> 16, out[2 * i + 1], out[2 * i + 3]);
        }
    }
    static Floats load(const void* weights) {
#if defined(__AVX512F__)
        return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)weights));
#elif defined(__AVX2__)
        return (Floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)weights));
#elif defined(__aarch64__)
        return (Floats)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t*)weights)));
#endif
    }
};

struct FloatBF16 {
    using Stored = uint16_t;
    static void widen(const Ints* four, Floats* out) {
        for (int i = 0; i < 4; ++i) {
            out[2 * i] = (Floats)(four[i] << 16);
            out[2 * i + 1] = (Floats)(four[i] & (int32_t)0xFFFF0000);
        }
    }
    static Floats load(const void* weights) {
        typedef uint16_t Upper __attribute__((vector_size(2 * WIDTH)));
        Upper upper;
        memcpy(&upper, weights, sizeof upper);
        return (Floats)(__builtin_convertvector(upper, Ints) << 16);
    }
};

template <class Float>
struct FloatForm {
    using Panel = FloatPanel;
    using Column = FloatColumn;
    using Block = typename Float::Stored;
    static constexpr int WEIGHTS = FLOATS, BLOCK = 1, COLUMNS = 6, AT_ONCE = 16 / sizeof(Block);

    template <class At, class Out>
    [[gnu::always_inline]] static void put(const At& rows, int64_t offset, Out& out, int first) {
        Ints four[4];
        Floats some[AT_ONCE];
        transpose(rows, offset, four);
        Float::widen(four, some);
        out.template put<AT_ONCE>(first, some);
    }

    // n weights, at most FLOATS: those behind the end of the row are 0.
    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int n, Out& out) {
        int i = 0;
        for (; i + AT_ONCE <= n; i += AT_ONCE) put(rows, i * (int64_t)sizeof(Block), out, i);
        if (i < n) {
            uint8_t rest[ROWS][16] = {};
            RowPointers at;
            for (int row = 0; row < ROWS; ++row)
                at.at[row] = (const uint8_t*)memcpy(rest[row], rows.each()[row] + i * sizeof(Block), (n - i) * sizeof(Block));
            put(at, 0, out, i);
            i += AT_ONCE;
        }
        if (i < FLOATS) out.clear(i);
    }

    template <int N>
    static void multiply(const Panel* panels, const Column* x, Floats (*y)[PANELS]) {
        Floats sums[N][PANELS] = {};
#pragma GCC unroll 4
        for (int i = 0; i < FLOATS; ++i) {
#pragma GCC unroll 6
            for (int n = 0; n < N; ++n) {
                const Floats same = broadcast(x[n].x[i]);
#pragma GCC unroll 2
                for (int p = 0; p < PANELS; ++p) sums[n][p] = fma(panels[p].levels[i], same, sums[n][p]);
            }
        }
#pragma GCC unroll 6
        for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
            for (int p = 0; p < PANELS; ++p) y[n][p] += sums[n][p];
    }
};

// sums += a row's n weights, from `weights` on, × N columns.
template <class Float, int N>
[[gnu::always_inline]] inline void add_row(const typename Float::Stored* weights, const FloatColumn* x, int n, Floats (*sums)[4]) {
    int i = 0;
    for (; i + 4 * WIDTH <= n; i += 4 * WIDTH)
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            const Floats some = Float::load(weights + i + j * WIDTH);
#pragma GCC unroll 2
            for (int c = 0; c < N; ++c) sums[c][j] = fma(some, FloatF32::load(x[c].x + i + j * WIDTH), sums[c][j]);
        }
    for (; i < n; i += WIDTH) {
        typename Float::Stored rest[WIDTH] = {};
        memcpy(rest, weights + i, (n - i < WIDTH ? n - i : WIDTH) * sizeof *rest);
        for (int c = 0; c < N; ++c) sums[c][0] = fma(Float::load(rest), FloatF32::load(x[c].x + i), sums[c][0]);
    }
}

// Few columns, row by row: a vector holds weights of one row. Each column has four sums, so that none waits for another.
template <class Float, int N>
void multiply_rows(const products::Rows& rows) {
    using Type = FloatForm<Float>;
    const int64_t pieces = (rows.row + FLOATS - 1) / FLOATS;
    const auto* columns = (const FloatColumn*)rows.columns;
    for (int64_t row = rows.first; row < rows.end; ++row) {
        const auto* weights = (const typename Float::Stored*)(rows.weights + row * rows.row_bytes);
        Fetch fetch = fetch_rows(rows, row + 1 < rows.end ? row + 1 : rows.ahead, 1, 0, 1);
        Floats sums[N][4] = {};
        for (int64_t b = 0; b < pieces; ++b, weights += FLOATS) {
            fetch.some(bytes_of<Type>());
            add_row<Float, N>(weights, columns + b * N, weights_left<Type>(rows, b), sums);
        }
        for (int c = 0; c < N; ++c)
            rows.y[c * rows.n_rows + row] = sum_of((sums[c][0] + sums[c][1]) + (sums[c][2] + sums[c][3]));
    }
}

// At most two columns.
template <class Float>
void multiply_few_floats(const products::Rows& rows) {
    rows.n_columns == 1 ? multiply_rows<Float, 1>(rows) : multiply_rows<Float, 2>(rows);
}

}  // namespace
