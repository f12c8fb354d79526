// Round rows of weights with error feedback, one row in each lane. With Δ = W - Ŵ and H = A · D · Aᵀ, the error tr(Δ H Δᵀ) is
// Σ D(k) × ε(k)² of ε = Δ · A. As A is unit upper triangular, ε(k) = Δ(k) + Σ Δ(j) × A(j, k) of the columns j before k: a
// column is rounded to what makes its ε least, given those before it. (GPTQ, arXiv 2210.17323, and LDLQ, arXiv 2307.13304.)
//
// Scales stay as the search found them. So columns can be rounded in any order, and they are in the order of the factor:
// descending H(j, j).

#pragma once

#include "factor.h"
#include "grids.h"

namespace {

using feedback::Rounding;

// Parts of `work`; all but strips are one row of `lanes` floats for each place, or sub-block.
struct Work {
    float *delta, *epsilon, *values, *scales, *mins, *gradient, *strips;
};

inline int64_t lanes_of(int64_t n_rows) { return (n_rows + 15) / 16 * 16; }

// Floats of all parts together.
inline int64_t work_size(int64_t n, int64_t n_rows) {
    return lanes_of(n_rows) * (3 * n + 2 * (n / 16) + DEPTH) + (lanes_of(n_rows) + STRIP) * DEPTH;
}

inline Work work_of(float* at, int64_t n, int64_t lanes) {
    const int64_t columns = n * lanes, subs = n / 16 * lanes;
    return {at, at + columns, at + 2 * columns, at + 3 * columns, at + 3 * columns + subs, at + 3 * columns + 2 * subs,
            at + 3 * columns + 2 * subs + DEPTH * lanes};
}

// ε is kept as the target until the column is rounded: w + Σ Δ(j) × A(j, k).
template <class Type>
inline void begin(const Rounding& r, int64_t lanes, Work w) {
    const int64_t n = r.factor.n;
    constexpr int N_SUBS = SUPER / Type::SUB, SOME = 16;
    memset(w.scales, 0, sizeof(float) * (size_t)(2 * (n / 16) * lanes));
    for (int64_t place = 0; place < n; ++place)
        memset(w.delta + place * lanes + r.n_rows, 0, sizeof(float) * (size_t)(lanes - r.n_rows));
    for (int64_t c = 0; c < n; c += SOME)
        for (int64_t row = 0; row < r.n_rows; ++row)
            for (int i = 0; i < SOME; ++i) w.delta[r.places[c + i] * lanes + row] = r.rows[row * n + c + i];
    memcpy(w.epsilon, w.delta, sizeof(float) * (size_t)(n * lanes));
    const char* from = (const char*)r.blocks;
    for (int64_t row = 0; row < r.n_rows; ++row)
        for (int64_t b = 0; b < n / SUPER; ++b, from += sizeof(typename Type::Block)) {
            typename Type::Block block;
            memcpy(&block, from, sizeof block);
            Scales s = {};
            Type::scales(block, s);
            for (int i = 0; i < N_SUBS; ++i) {
                w.scales[(b * N_SUBS + i) * lanes + row] = s.scale[i];
                w.mins[(b * N_SUBS + i) * lanes + row] = s.min[i];
            }
        }
}

// Round all columns in order.
template <class Type>
inline void feed_back(const Rounding& r, int64_t lanes, Work w) {
    const Factor f = r.factor;
    for (int64_t first = 0; first < f.n; first += DEPTH) {
        for (int64_t group = first; group < first + DEPTH; group += TALL) {
            add_product(TALL, lanes, group - first, {f.a + group * f.row + first, f.row, 1}, w.strips,
                        w.epsilon + group * lanes, lanes);
            for (int64_t j = group; j < group + TALL; ++j) {
                const int64_t sub = r.order[j] / Type::SUB * lanes;
                for (int64_t i = 0; i < lanes; i += WIDTH) {
                    Floats target = load(w.epsilon + j * lanes + i);
                    for (int64_t before = group; before < j; ++before)
                        target += f.a[j * f.row + before] * load(in_strips(w.strips, before - first, i));
                    const Floats scale = load(w.scales + sub + i), min = load(w.mins + sub + i);
                    const Floats value = nearest_on(Type::LATTICE, target, scale, min), rounded = scale * value - min;
                    const Floats delta = load(w.delta + j * lanes + i) - rounded;
                    store(w.epsilon + j * lanes + i, target - rounded);
                    store(w.values + j * lanes + i, value);
                    store(w.delta + j * lanes + i, delta);
                    store(in_strips(w.strips, j - first, i), delta);
                }
            }
        }
        const int64_t next = first + DEPTH;
        add_product(f.n - next, lanes, DEPTH, {f.a + next * f.row + first, f.row, 1}, w.strips, w.epsilon + next * lanes, lanes);
    }
}

// The gradient Δ · H of the block of columns at `first`: Σ A(j, k) × D(k) × ε(k) over k.
inline void find_gradient(const Factor f, int64_t first, int64_t lanes, Work w) {
    constexpr int SOME = 16;
    float pack[SOME * DEPTH];
    memset(w.gradient, 0, sizeof(float) * (size_t)(DEPTH * lanes));
    for (int64_t begin = first; begin < f.n; begin += DEPTH) {
        for (int64_t k = 0; k < DEPTH; ++k)
            for (int64_t i = 0; i < lanes; i += WIDTH)
                store(in_strips(w.strips, k, i), f.d[begin + k] * load(w.epsilon + (begin + k) * lanes + i));
        for (int64_t j = 0; j < DEPTH; j += SOME) {
            for (int64_t k = 0; k < DEPTH; ++k)
                for (int m = 0; m < SOME; ++m)
                    pack[m / TALL * (TALL * DEPTH) + k * TALL + m % TALL] = f.a[(begin + k) * f.row + first + j + m];
            for (int m = 0; m < SOME; m += TALL)
                add_product(TALL, lanes, DEPTH, {pack + m * DEPTH, 1, TALL}, w.strips, w.gradient + (j + m) * lanes, lanes);
        }
    }
}

// What a change must gain, in parts of its square, so that no error of rounding makes the whole worse.
constexpr float MARGIN = 1e-3f;

// Move each column to its optimum given all others, once: by G(j) / H(j, j), to the nearest on its grid.
template <class Type>
inline void refine(const Rounding& r, int64_t lanes, Work w) {
    const Factor f = r.factor;
    for (int64_t first = 0; first < f.n; first += DEPTH) {
        const float* moments = r.moments + first * DEPTH;
        find_gradient(f, first, lanes, w);
        Mask moved = {};
        for (int64_t group = 0; group < DEPTH; group += TALL) {
            add_product(TALL, lanes, group, {moments + group * DEPTH, DEPTH, 1}, w.strips, w.gradient + group * lanes, lanes);
            for (int64_t j = group; j < group + TALL; ++j) {
                const int64_t sub = r.order[first + j] / Type::SUB * lanes, at = (first + j) * lanes;
                const float moment = moments[j * DEPTH + j];
                for (int64_t i = 0; i < lanes; i += WIDTH) {
                    Floats gradient = load(w.gradient + j * lanes + i);
                    for (int64_t before = group; before < j; ++before)
                        gradient += moments[j * DEPTH + before] * load(in_strips(w.strips, before, i));
                    const Floats scale = load(w.scales + sub + i), min = load(w.mins + sub + i);
                    const Floats value = load(w.values + at + i), rounded = scale * value - min;
                    const Floats other = nearest_on(Type::LATTICE, rounded + gradient / moment, scale, min);
                    const Floats change = rounded - (scale * other - min);  // of Δ
                    const Mask better = -2.0f * gradient * change > (1 + MARGIN) * moment * change * change;
                    const Floats taken = choose(better, change, Floats{});
                    store(w.values + at + i, choose(better, other, value));
                    store(w.delta + at + i, load(w.delta + at + i) + taken);
                    store(in_strips(w.strips, j, i), taken);
                    moved |= better;
                }
            }
        }
        if (any(moved))
            add_product(f.n - first, lanes, DEPTH, {f.a + first * f.row + first, f.row, 1}, w.strips,
                        w.epsilon + first * lanes, lanes);
    }
}

// Write the levels into the blocks, a super-block of all rows at a time.
template <class Type>
inline void finish(const Rounding& r, int64_t lanes, Work w) {
    const int64_t n_blocks = r.factor.n / SUPER;
    uint8_t* levels = (uint8_t*)w.gradient;
    for (int64_t b = 0; b < n_blocks; ++b) {
        for (int64_t c = 0; c < SUPER; ++c)
            for (int64_t i = 0; i < lanes; i += WIDTH) {
                uint8_t some[WIDTH];
                levels_of(Type::LATTICE, w.values + r.places[b * SUPER + c] * lanes + i, some);
                for (int lane = 0; lane < WIDTH; ++lane) levels[(i + lane) * SUPER + c] = some[lane];
            }
        for (int64_t row = 0; row < r.n_rows; ++row) {
            char* to = (char*)r.blocks + (row * n_blocks + b) * (int64_t)sizeof(typename Type::Block);
            typename Type::Block block;
            memcpy(&block, to, sizeof block);
            Type::put_levels(levels + row * SUPER, block);
            memcpy(to, &block, sizeof block);
        }
    }
}

template <class Type>
void round_rows(const Rounding& r) {
    const int64_t lanes = lanes_of(r.n_rows);
    const Work w = work_of(r.work, r.factor.n, lanes);
    begin<Type>(r, lanes, w);
    feed_back<Type>(r, lanes, w);
    for (int i = 0; i < r.sweeps; ++i) refine<Type>(r, lanes, w);
    finish<Type>(r, lanes, w);
}

}  // namespace
