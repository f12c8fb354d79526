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
    static constexpr int WEIGHTS = FLOATS, BLOCK = 1, COLUMNS = 6, AT_ONCE = 16 / sizeof(Block), MOST_FEW = 4;

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

// Rows that are multiplied at once with N columns, which are loaded once for all of them: so many that no sum waits for
// another. Each is one sum by lanes, so that any few columns give the same bytes.
template <int N>
constexpr int ROWS_AT_ONCE = N == 1 ? 8 : FEW_REGISTERS && N > 2 ? 2 : 4;

template <int N>
using FloatSums = Floats[ROWS_AT_ONCE<N>][N];

// sums += n weights of each row, from `at` on, × N columns.
template <class Float, int N>
[[gnu::always_inline]] inline void add_rows(const typename Float::Stored* const* at, const FloatColumn* x, int n,
                                            FloatSums<N>& sums) {
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        Floats weights[ROWS_AT_ONCE<N>];
        for (int r = 0; r < ROWS_AT_ONCE<N>; ++r) weights[r] = Float::load(at[r] + i);
#pragma GCC unroll 4
        for (int c = 0; c < N; ++c) {
            const Floats some = FloatF32::load(x[c].x + i);
            for (int r = 0; r < ROWS_AT_ONCE<N>; ++r) sums[r][c] = fma(weights[r], some, sums[r][c]);
        }
    }
    if (i == n) return;
    for (int r = 0; r < ROWS_AT_ONCE<N>; ++r) {
        typename Float::Stored rest[WIDTH] = {};
        memcpy(rest, at[r] + i, (n - i) * sizeof *rest);
        for (int c = 0; c < N; ++c) sums[r][c] = fma(Float::load(rest), FloatF32::load(x[c].x + i), sums[r][c]);
    }
}

// N columns, a few rows at a time: a vector holds weights of one row. The last row stands in for those behind it.
template <class Float, int N>
void multiply_rows(const products::Rows& rows) {
    using Stored = typename Float::Stored;
    constexpr int AT_ONCE = ROWS_AT_ONCE<N>;
    const int64_t pieces = (rows.row + FLOATS - 1) / FLOATS;
    const auto* columns = (const FloatColumn*)rows.columns;
    for (int64_t first = rows.first; first < rows.end; first += AT_ONCE) {
        const int64_t next = first + AT_ONCE < rows.end ? first + AT_ONCE : rows.ahead;
        Fetch fetch = fetch_rows(rows, next, AT_ONCE, 0, 1);
        int64_t number[AT_ONCE];
        const Stored* at[AT_ONCE];
        for (int r = 0; r < AT_ONCE; ++r) {
            number[r] = first + r < rows.end ? first + r : rows.end - 1;
            at[r] = (const Stored*)(rows.weights + number[r] * rows.row_bytes);
        }
        FloatSums<N> sums = {};
        for (int64_t b = 0; b < pieces; ++b) {
            fetch.some(AT_ONCE * bytes_of<FloatForm<Float>>());
            add_rows<Float, N>(at, columns + b * N, weights_left<FloatForm<Float>>(rows, b), sums);
            for (int r = 0; r < AT_ONCE; ++r) at[r] += FLOATS;
        }
        for (int r = 0; r < AT_ONCE; ++r)
            for (int c = 0; c < N; ++c) rows.y[c * rows.n_rows + number[r]] = sum_of(sums[r][c]);
    }
}

// At most N columns.
template <class Float, int N = FloatForm<Float>::MOST_FEW>
void multiply_few_floats(const products::Rows& rows) {
    if (rows.n_columns == N)
        multiply_rows<Float, N>(rows);
    else if constexpr (N > 1)
        multiply_few_floats<Float, N - 1>(rows);
}

}  // namespace
