// The equation on the CPU in one pass over memory. reference.product is the truth that this agrees with, bit for bit.
#include <cstdint>
#include <cstring>

namespace {

constexpr int LANES = 32;
constexpr int64_t BLOCK = 32 * LANES;
constexpr uint32_t ODD = 0x9E3779B9;

// Vectors of the compiler's own, so that speed does not hang on what its loop vectoriser recognises.
template <class T, int N>
struct Vector {
    typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using Vec = typename Vector<T, N>::type;

template <class V, class From>
inline V load(const From* from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

// A dtype as it lies in memory, the wider one that it is computed in, and the integers of that width.
struct Float32 {
    using Bits = float;
    using Wide = float;
    using Int = int32_t;
    static Vec<float, 8> read(const float* x) { return load<Vec<float, 8>>(x); }
    static void write(float* to, Vec<float, 8> x) { std::memcpy(to, &x, sizeof x); }
};

struct Float64 {
    using Bits = double;
    using Wide = double;
    using Int = int64_t;
    static Vec<double, 4> read(const double* x) { return load<Vec<double, 4>>(x); }
    static void write(double* to, Vec<double, 4> x) { std::memcpy(to, &x, sizeof x); }
};

struct BFloat16 {
    using Bits = uint16_t;
    using Wide = float;
    using Int = int32_t;
    static Vec<float, 8> read(const uint16_t* x) {
        return (Vec<float, 8>)(__builtin_convertvector(load<Vec<uint16_t, 8>>(x), Vec<uint32_t, 8>) << 16);
    }
    static void write(uint16_t* to, Vec<float, 8> x) {  // to nearest, ties to even; no product is a NaN with low bits
        const auto bits = (Vec<uint32_t, 8>)x;
        const auto top = __builtin_convertvector((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, Vec<uint16_t, 8>);
        std::memcpy(to, &top, sizeof top);
    }
};

inline uint32_t mix(uint32_t h) {
    h = (h ^ (h >> 16)) * 0x21F0AAAD;
    h = (h ^ (h >> 15)) * 0xD35A2D97;
    return h ^ (h >> 15);
}

// Bit b from the top of words[k] is the sign of element 32 * b + k of the block: 1 with probability level / 2^16.
// The first plane whose bit equals the digit of the level decides: few blocks need all 16.
inline void draw(uint32_t low, uint32_t high, uint32_t block, uint32_t level, uint32_t* words) {
    uint32_t first[LANES], open[LANES];
    for (uint32_t k = 0; k < LANES; k++) {
        first[k] = mix(((block * LANES + k) ^ low) + ODD);
        words[k] = level >> 16 ? ~0u : 0u;
        open[k] = ~0u;
    }
    if (level == 0 || level >> 16) return;
    const int last = 15 - __builtin_ctz(level);
    for (int plane = 0; plane <= last; plane++) {
        const uint32_t step = mix(plane) + ODD;
        const uint32_t digit = (level >> (15 - plane)) & 1 ? ~0u : 0u;
        uint32_t left = 0;
        for (int k = 0; k < LANES; k++) {
            const uint32_t word = first[k] + mix((first[k] ^ high) + step);
            words[k] |= open[k] & word & digit;
            open[k] &= word ^ digit;
            left |= open[k];
        }
        if (!left) return;
    }
}

enum Through { NOTHING, RELU, LEAKY_RELU };

template <class T, Through THROUGH>
void multiply(const typename T::Bits* src, const typename T::Bits* ref, typename T::Bits* out, int64_t n,
              int64_t start, uint64_t seed, double eps, double slope, uint32_t level, int threads) {
    using Wide = typename T::Wide;
    constexpr int N = 32 / sizeof(Wide);
    using Values = Vec<Wide, N>;
    using Ints = Vec<typename T::Int, N>;
    const Values zero = {}, one = zero + Wide(1), shrink = zero + Wide(slope);
    const Ints top = (Ints)-zero;
    const Ints less = (Ints)(zero - Wide(eps));
    const uint32_t high = mix(uint32_t(seed >> 32) ^ mix(uint32_t(seed) + ODD));
    const uint32_t low = mix(uint32_t(seed) ^ high);

    // One row of a block; the top bits of the words are its signs.
    const auto row = [=](const typename T::Bits* y, const typename T::Bits* x, typename T::Bits* to,
                         const Vec<int32_t, N>* words) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int k = 0; k < LANES / N; k++) {
            const Values at = T::read(x + k * N), value = T::read(y + k * N);
            const Ints plus = __builtin_convertvector(words[k], Ints);
            Values result;
            if (THROUGH == RELU) {
                result = (at <= zero ? zero : value) * (one + (Values)(((plus & top) ^ less)));
            } else {
                const Ints same = ((plus ^ (Ints)at) & top) ^ less;  // eps * l(x), if x is not 0
                result = (THROUGH == NOTHING ? value : at <= zero ? value * shrink : value) *
                         (one + (Values)(same & (at != zero)));
            }
            T::write(to + k * N, result);
        }
    };
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) if (n >= 32 * BLOCK)
    for (int64_t block = 0; block < blocks; block++) {
        alignas(64) uint32_t drawn[LANES];
        draw(low, high, uint32_t(start / BLOCK + block), level, drawn);
        Vec<int32_t, N> words[LANES / N];
        std::memcpy(words, drawn, sizeof drawn);
        const auto own = row;  // its constants in registers: what threads share is loaded again after every store
        for (int b = 0; b < 32; b++) {
            const int64_t begin = block * BLOCK + b * LANES, left = n - begin;
            if (left >= LANES) {
                own(src + begin, ref + begin, out + begin, words);
            } else if (left > 0) {
                typename T::Bits y[LANES] = {}, x[LANES] = {};
                std::memcpy(y, src + begin, left * sizeof *y);
                std::memcpy(x, ref + begin, left * sizeof *x);
                own(y, x, y, words);
                std::memcpy(out + begin, y, left * sizeof *y);
            }
#pragma GCC unroll 8
            for (int k = 0; k < LANES / N; k++) words[k] <<= 1;
        }
    }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                           \
    extern "C" void NAME(const void* src, const void* ref, void* out, int64_t n, int64_t start, const void* seed, \
                         double eps, double slope, uint32_t level, int threads) {                                 \
        (slope == 0 ? multiply<T, RELU> : slope == 1 ? multiply<T, NOTHING> : multiply<T, LEAKY_RELU>)(           \
            static_cast<const T::Bits*>(src), static_cast<const T::Bits*>(ref), static_cast<T::Bits*>(out), n,    \
            start, *static_cast<const uint64_t*>(seed), eps, slope, level, threads);                              \
    }

EXPORT(multiply_float32, Float32)
EXPORT(multiply_float64, Float64)
EXPORT(multiply_bfloat16, BFloat16)
