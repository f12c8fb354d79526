// Scaled dot-product attention of the heads that share keys and values, tile by tile of the keys (Dao et al. 2022).
//
// Each sum is in an order of its own, so a query's result depends neither on the variant nor on the queries beside it, but for
// whether these are few.

#pragma once

#include "../variant.h"
#include "polynomial.h"

namespace {

constexpr int TILE = 64;                                   // keys
constexpr int SUMS = FEW_REGISTERS ? 8 : 16;               // vectors of them that registers hold
constexpr int BLOCK = 32;                                  // columns of a product whose sums are registers
constexpr int AT_ONCE = WIDTH == 16 ? 8 : 2;               // its rows
constexpr int FEW_QUERIES = 4;                             // multiplied without a transposition of the keys
constexpr int MOST_ROWS = products::Attention::MOST_ROWS;  // queries × heads
constexpr int MOST_DIM = products::Attention::MOST_DIM;

// c (N, COLUMNS) += a (N, inner) · b (inner, COLUMNS), of rows that lie `a_row`, `b_row` and `c_row` floats apart.
template <int N, int COLUMNS>
inline void add_rows(const float* a, int64_t a_row, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t inner) {
    constexpr int VECTORS = COLUMNS / WIDTH;
    Floats sums[N][VECTORS];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) sums[n][v] = load(c + n * c_row + v * WIDTH);
#pragma GCC unroll 1
    for (int64_t i = 0; i < inner; ++i) {
        Floats row[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) row[v] = load(b + i * b_row + v * WIDTH);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) sums[n][v] = fma(broadcast(a[n * a_row + i]), row[v], sums[n][v]);
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) store(c + n * c_row + v * WIDTH, sums[n][v]);
}

// The same of `n` rows, N at a time.
template <int COLUMNS, int N = AT_ONCE>
inline void add_columns(const float* a, int64_t a_row, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t n,
                        int64_t inner) {
    int64_t i = 0;
    for (; i + N <= n; i += N) add_rows<N, COLUMNS>(a + i * a_row, a_row, b, b_row, c + i * c_row, c_row, inner);
    if constexpr (N > 1)
        if (i < n) add_columns<COLUMNS, N / 2>(a + i * a_row, a_row, b, b_row, c + i * c_row, c_row, n - i, inner);
}

// The same of N rows, and of as many columns as there are registers for.
template <int N, int COLUMNS = WIDTH * SUMS / (N > 2 ? 4 : 2)>
inline void add_few_rows(const float* a, int64_t a_row, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t inner,
                         int64_t columns) {
    int64_t i = 0;
    for (; i + COLUMNS <= columns; i += COLUMNS) add_rows<N, COLUMNS>(a, a_row, b + i, b_row, c + i, c_row, inner);
    if constexpr (COLUMNS > 16)
        if (i < columns) add_few_rows<N, COLUMNS / 2>(a, a_row, b + i, b_row, c + i, c_row, inner, columns - i);
}

// The same of `n` rows, and as many columns, a multiple of 16.
inline void add_product(const float* a, int64_t a_row, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t n,
                        int64_t inner, int64_t columns) {
    if (n == 1) return add_few_rows<1>(a, a_row, b, b_row, c, c_row, inner, columns);
    if (n == 2) return add_few_rows<2>(a, a_row, b, b_row, c, c_row, inner, columns);
    if (n == 3) return add_few_rows<3>(a, a_row, b, b_row, c, c_row, inner, columns);
    if (n == 4) return add_few_rows<4>(a, a_row, b, b_row, c, c_row, inner, columns);
    int64_t i = 0;
    for (; i + BLOCK <= columns; i += BLOCK) add_columns<BLOCK>(a, a_row, b + i, b_row, c + i, c_row, n, inner);
    if (i < columns) add_columns<16>(a, a_row, b + i, b_row, c + i, c_row, n, inner);
}

// As many columns as are multiplied for n keys.
inline int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// Key number i of the n of a tile that begins at `begin`; behind the last one, the last.
inline const float* key_of(const products::Attention& a, int64_t begin, int64_t i, int64_t n) {
    return a.k + (begin + (i < n ? i : n - 1)) * a.k_row;
}

// n rows of keys → (dim, TILE), a key in each column; those from n on are some other.
inline void transpose_keys(const products::Attention& a, int64_t begin, int64_t n, float* keys) {
    for (int64_t first = 0; first < padded(n); first += ROWS) {
        RowPointers at;
        for (int i = 0; i < ROWS; ++i) at.at[i] = (const uint8_t*)key_of(a, begin, first + i, n);
        for (int64_t d = 0; d < a.dim; d += 4) {
            Ints four[4];
            transpose(at, d * sizeof(float), four);
            for (int i = 0; i < 4; ++i) store(keys + (d + i) * TILE + first, (Floats)four[i]);
        }
    }
}

// Sums of 16, each of every 16th summand, of ROWS keys → the sum of each key's, halves first.
inline Floats fold(const float (*sums)[16]) {
    RowPointers at;
    for (int i = 0; i < ROWS; ++i) at.at[i] = (const uint8_t*)sums[i];
    Ints each[16];
    for (int i = 0; i < 16; i += 4) transpose(at, i * sizeof(float), each + i);
    for (int n = 8; n; n /= 2)
        for (int i = 0; i < n; ++i) each[i] = (Ints)((Floats)each[i] + (Floats)each[i + n]);
    return (Floats)each[0];
}

// The products of N queries, (N, dim) in one piece, with the n keys of a tile, without a transposition of the keys.
template <int N>
inline void multiply_few_queries(const products::Attention& a, const float* q, int64_t begin, int64_t n, float* scores) {
    constexpr int VECTORS = 16 / WIDTH, MOST = SUMS / (N * VECTORS), KEYS = MOST > 4 ? 4 : MOST > 1 ? 2 : 1;
    for (int64_t first = 0; first < n; first += ROWS) {
        alignas(64) float sums[N][ROWS][16];
        for (int i = 0; i < ROWS; i += KEYS) {
            const float* at[KEYS];
            for (int j = 0; j < KEYS; ++j) at[j] = key_of(a, begin, first + i + j, n);
            Floats sum[N][KEYS][VECTORS] = {};
#pragma GCC unroll 1
            for (int64_t d = 0; d < a.dim; d += 16)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v) {
                    Floats some[KEYS];
#pragma GCC unroll 4
                    for (int j = 0; j < KEYS; ++j) some[j] = load(at[j] + d + v * WIDTH);
#pragma GCC unroll 4
                    for (int r = 0; r < N; ++r) {
                        const Floats query = load(q + r * a.dim + d + v * WIDTH);
#pragma GCC unroll 4
                        for (int j = 0; j < KEYS; ++j) sum[r][j][v] = fma(query, some[j], sum[r][j][v]);
                    }
                }
            for (int r = 0; r < N; ++r) memcpy(sums[r][i], sum[r], sizeof sum[r]);
        }
        for (int r = 0; r < N; ++r) store(scores + r * TILE + first, fold(sums[r]));
    }
}

template <int N = FEW_QUERIES>
inline void multiply_few_queries(const products::Attention& a, const float* q, int64_t begin, int64_t n, float* scores,
                                 int64_t n_queries) {
    if (n_queries == N)
        multiply_few_queries<N>(a, q, begin, n, scores);
    else if constexpr (N > 1)
        multiply_few_queries<N - 1>(a, q, begin, n, scores, n_queries);
}

inline bool is_hidden(const products::Attention& a, int64_t query, int64_t key) {
    return a.mask && a.mask[query * a.mask_row + key] != 0;
}

// The first key that any query sees, or the last, by their numbers; n_keys without one.
inline int64_t seen_key(const products::Attention& a, bool last) {
    for (int64_t i = 0; i < a.n_keys; ++i)
        for (int64_t query = 0; query < a.n_queries; ++query)
            if (const int64_t key = last ? a.n_keys - 1 - i : i; !is_hidden(a, query, key)) return key;
    return a.n_keys;
}

// Which of a tile's n keys a query does not see: not 0; neither does it see those behind them.
inline void put_hidden(const products::Attention& a, int64_t query, int64_t begin, int64_t n, uint16_t* hidden) {
    memset(hidden, 1, TILE * sizeof *hidden);
    if (a.mask)
        memcpy(hidden, a.mask + query * a.mask_row + begin, n * sizeof *hidden);
    else
        memset(hidden, 0, n * sizeof *hidden);
}

// Products of a query with the keys of a tile become scores; those of hidden ones are -infinity.
inline void scale_and_hide(float scale, const uint16_t* hidden, float* scores) {
    typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));
    for (int i = 0; i < TILE; i += WIDTH) {
        Halves some;
        memcpy(&some, hidden + i, sizeof some);
        const Mask mask = __builtin_convertvector(some, Ints) != 0;
        store(scores + i, choose(mask, broadcast(-__builtin_inff()), load(scores + i) * scale));
    }
}

// The sum of a tile, halves first: in every variant the same.
inline float sum_of_tile(const float* x) {
    float each[TILE];
    memcpy(each, x, sizeof each);
    for (int n = TILE / 2; n >= WIDTH; n /= 2)
        for (int i = 0; i < n; i += WIDTH) store(each + i, load(each + i) + load(each + i + n));
    return sum_of(load(each));
}

// Softmax as far as it is known: scores of a tile become e^(score - most), and what was summed before becomes that of the new
// maximum.
inline void soften(float* scores, float& most, float& total, float* y, int64_t dim) {
    Floats top = load(scores);
    Mask unknown = top != top;
    for (int i = WIDTH; i < TILE; i += WIDTH) {
        const Floats some = load(scores + i);
        top = choose(some > top, some, top);
        unknown |= some != some;
    }
    float now = most;
    for (int i = 0; i < WIDTH; ++i) now = top[i] > now ? top[i] : now;
    if (now == -__builtin_inff() && !any(unknown)) {  // none of these keys is seen
        memset(scores, 0, TILE * sizeof *scores);
        return;
    }
    for (int i = 0; i < TILE; i += WIDTH) store(scores + i, exponential(load(scores + i) - now));
    const float sum = sum_of_tile(scores);
    if (now != most) {
        const Floats factor = exponential(broadcast(most) - now);
        for (int64_t d = 0; d < dim; d += WIDTH) store(y + d, load(y + d) * factor);
        total *= factor[0];
        most = now;
    }
    total += sum;
}

// The queries of an attention, a row for each position and head, and what is known of their results.
struct Queries {
    alignas(64) float q[MOST_ROWS * MOST_DIM], y[MOST_ROWS * MOST_DIM], scores[MOST_ROWS * TILE];
    float most[MOST_ROWS], total[MOST_ROWS];
    int64_t n;

    explicit Queries(const products::Attention& a) : n(a.n_queries * a.heads) {
        for (int64_t i = 0; i < n; ++i) {
            memcpy(q + i * a.dim, a.q + i / a.heads * a.q_row + i % a.heads * a.q_head, a.dim * sizeof *q);
            most[i] = -__builtin_inff();
            total[i] = 0;
        }
        memset(y, 0, n * a.dim * sizeof *y);
    }

    // The products with the n keys of a tile.
    void multiply(const products::Attention& a, int64_t begin, int64_t n_keys) {
        if (n <= FEW_QUERIES) return multiply_few_queries(a, q, begin, n_keys, scores, n);
        alignas(64) float keys[MOST_DIM * TILE];
        transpose_keys(a, begin, n_keys, keys);
        memset(scores, 0, n * TILE * sizeof *scores);
        add_product(q, a.dim, keys, TILE, scores, TILE, n, a.dim, padded(n_keys));
    }

    // What a tile adds to the results.
    void add(const products::Attention& a, int64_t begin, int64_t n_keys) {
        multiply(a, begin, n_keys);
        uint16_t hidden[TILE];
        for (int64_t i = 0; i < n; ++i) {
            if (i % a.heads == 0) put_hidden(a, i / a.heads, begin, n_keys, hidden);
            scale_and_hide(a.scale, hidden, scores + i * TILE);
            soften(scores + i * TILE, most[i], total[i], y + i * a.dim, a.dim);
        }
        add_product(scores, TILE, a.v + begin * a.v_row, a.v_row, y, a.dim, n, n_keys, a.dim);
    }

    void write(const products::Attention& a) const {
        for (int64_t i = 0; i < n; ++i) {
            const float inverse = inverse_of(total[i]);
            float* out = a.y + i / a.heads * a.y_row + i % a.heads * a.dim;
            for (int64_t d = 0; d < a.dim; d += WIDTH) store(out + d, load(y + i * a.dim + d) * inverse);
        }
    }
};

inline void attend(const products::Attention& a) {
    Queries queries(a);
    const int64_t first = seen_key(a, false), end = first < a.n_keys ? seen_key(a, true) + 1 : 0;
    for (int64_t begin = first / TILE * TILE; begin < end; begin += TILE)
        queries.add(a, begin, end - begin < TILE ? end - begin : TILE);
    queries.write(a);
}

}  // namespace
