// The kernels of one instruction set: compiled once for each, with VARIANT as the name of its table.

#include <cstddef>

#include "few.h"
#include "multiply.h"
#include "vector.h"

namespace {

// What multiplies few columns with weights of a type, and how many at most.
#if defined(__AVX512VNNI__)
#define FEW(type) multiply_vector<Vector##type>, 1
#else
#define FEW(type) multiply_few<type>, MOST_FEW
#endif

// Numbers are those of ggml_type.
constexpr int Q8_0_BLOCKS = 8, Q8_1_BLOCKS = 9, Q8_K_BLOCKS = 15;

const products::Kernel KERNELS[] = {
    {2, Q8_0_BLOCKS, quantize_q8_0, multiply<Q4_0>, FEW(Q4_0)},
    {3, Q8_1_BLOCKS, quantize_q8_1, multiply<Q4_1>, FEW(Q4_1)},
    {6, Q8_0_BLOCKS, quantize_q8_0, multiply<Q5_0>, FEW(Q5_0)},
    {7, Q8_1_BLOCKS, quantize_q8_1, multiply<Q5_1>, FEW(Q5_1)},
    {8, Q8_0_BLOCKS, quantize_q8_0, multiply<Q8_0>, FEW(Q8_0)},
    {10, Q8_K_BLOCKS, quantize_super, multiply<Q2_K>, multiply_few<Q2_K, 1>, 1},
    {11, Q8_K_BLOCKS, quantize_super, multiply<Q3_K>, multiply_few<Q3_K, 1>, 1},
    {12, Q8_K_BLOCKS, quantize_super, multiply<Q4_K>, FEW(Q4_K)},
    {13, Q8_K_BLOCKS, quantize_super, multiply<Q5_K>, FEW(Q5_K)},
    {14, Q8_K_BLOCKS, quantize_super, multiply<Q6_K>, FEW(Q6_K)},
    {20, Q8_0_BLOCKS, quantize_q8_0, multiply<IQ4_NL>, FEW(IQ4_NL)},
    {23, Q8_K_BLOCKS, quantize_super, multiply<IQ4_XS>, FEW(IQ4_XS)},
};

}  // namespace

products::Kernels products::VARIANT() { return {KERNELS, sizeof KERNELS / sizeof *KERNELS}; }
