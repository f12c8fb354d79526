// The kernels of one instruction set: compiled once for each, with VARIANT as the name of its table.

#include "variant.h"

#include "low_rank.h"
#include "small_blocks.h"

namespace {

using lanes::Rows;

template <class Type>
void quantize(const Rows& rows, void* blocks) {
    using Tile = typename Type::Tile;
    constexpr int WEIGHTS = Tile::WEIGHTS, BLOCK_WEIGHTS = Tile::BLOCK_WEIGHTS;
    const int64_t span = Tile::SPAN == Span::ROW ? rows.row : BLOCK_WEIGHTS;
    const int64_t n = rows.n_rows * rows.row;
    const Stored stored = (Stored)rows.stored;
    SumsOfSquares squares(rows.data, stored, n / span, span);
    Tile tile = {};
    tile.weighted = rows.imatrix;
    tile.span = (float)span;
    char* out = (char*)blocks;
    for (int64_t first = 0; first < n; first += WEIGHTS) {
        const int count = n - first < WEIGHTS ? (int)(n - first) : WEIGHTS;
        widen((const char*)rows.data + first * stored_bytes(stored), stored, count, tile.x);
        memset(tile.x + count, 0, sizeof tile.x - count * sizeof(float));
        if (tile.weighted) {
            memset(tile.imatrix + count, 0, sizeof tile.imatrix - count * sizeof(float));
            for (int i = 0; i < count; i += BLOCK_WEIGHTS) {
                memcpy(tile.imatrix + i, rows.imatrix + (first + i) % rows.row, BLOCK_WEIGHTS * sizeof(float));
                if (Tile::SPAN != Span::NONE) tile.squares[i / BLOCK_WEIGHTS] = squares.of((first + i) / span);
            }
        }
        tile.n_blocks = count / BLOCK_WEIGHTS;
        Type::search(tile);
        for (int i = 0; i < tile.n_blocks; ++i, out += sizeof(typename Type::Block)) {
            typename Type::Block block;
            Type::write(tile, i, block);
            memcpy(out, &block, sizeof block);
        }
    }
}

// Numbers are those of ggml_type. With SSE2 alone, Q4_0 and Q4_1 would be slower than ggml's.
const lanes::Kernel KERNELS[] = {
#if !defined(__SSE2__) || defined(__AVX2__)
    {2, true, quantize<Q4_0>},
    {3, true, quantize<Q4_1>},
#endif
    {6, true, quantize<Q5_0>},
    {7, true, quantize<Q5_1>},
    {8, false, quantize<Q8_0>},
    {10, true, quantize<Q2_K>},
    {11, true, quantize<Q3_K>},
    {12, true, quantize<Q4_K>},
    {13, true, quantize<Q5_K>},
    {14, true, quantize<Q6_K>},
    {20, true, quantize<IQ4_NL>},
    {23, true, quantize<IQ4_XS>},
};

}  // namespace

lanes::Kernels lanes::VARIANT() { return {KERNELS, sizeof KERNELS / sizeof *KERNELS, add_low_rank}; }
