#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include "test/ptx/machine.h"

// The machine itself: the results of each opcode, and what it rejects. Kernels have a few lines; those that write take
// the address of 64-bit words as their only parameter.

namespace ptx {
namespace {

KernelText kernel_of(const std::string& body, const std::string& parameters = ".param .u64 out") {
  const std::string text = ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry kernel(\n" + parameters +
                           "\n)\n.maxntid 64, 1, 1\n{\n.reg .pred %p<9>;\n.reg .b16 %rs<9>;\n.reg .b32 %r<9>;\n" +
                           ".reg .f32 %f<9>;\n.reg .b64 %rd<9>;\n.reg .f64 %fd<9>;\n" + body + "\n}\n";
  return read_kernels("test.ptx", text).at(0);
}

void run_on(const Kernel& kernel, std::uint64_t* out, unsigned threads) {
  const std::vector<std::byte> parameters(reinterpret_cast<const std::byte*>(&out),
                                          reinterpret_cast<const std::byte*>(&out + 1));
  run({kernel, parameters, 1, threads, {simt::Order::kRandom, 1, 1}, 1});
}

/// What each thread wrote to its word after the lines, from %rd0.
std::vector<std::uint64_t> results(const std::string& lines, unsigned threads = 1) {
  std::vector<std::uint64_t> words(threads, 0);
  const std::string end = R"(
    ld.param.u64 %rd7, [out];
    mov.u32 %r7, %tid.x;
    mul.wide.u32 %rd8, %r7, 8;
    add.s64 %rd7, %rd7, %rd8;
    st.global.u64 [%rd7], %rd0;
    ret;)";
  run_on(decode(kernel_of(lines + end)), words.data(), threads);
  return words;
}

std::uint64_t result(const std::string& lines) { return results(lines)[0]; }

/// Of an instruction whose destination is %f0.
std::uint32_t float_result(const std::string& lines) {
  return static_cast<std::uint32_t>(
      result("mov.u64 %rd0, 0;\n" + lines + "\nmov.b32 %r0, %f0;\ncvt.u64.u32 %rd0, %r0;"));
}

std::string refusal(const std::string& line) {
  try {
    decode(kernel_of(line + "\nret;"));
  } catch (const NotUnderstood& error) {
    return error.what();
  }
  return "nothing";
}

std::string failure(const std::string& body, unsigned threads = 1) {
  try {
    std::vector<std::uint64_t> words(threads, 0);
    run_on(decode(kernel_of(body)), words.data(), threads);
  } catch (const simt::Error& error) {
    return error.what();
  }
  return "nothing";
}

// ---- Refused ----

TEST(Ptx, RefusesWhatItDoesNotKnow) {
  for (const std::string line : {
           "sin.approx.f32 %f0, %f1;",
           "add.f32 %f0, %f1, %f2;",         // what may be contracted
           "add.rn.ftz.f32 %f0, %f1, %f2;",  // what flushes
           "div.full.f32 %f0, %f1, %f2;",
           "mul.rm.f32 %f0, %f1, %f2;",
           "ld.volatile.global.u32 %r0, [%rd0];",
           "ld.global.nc.u32 %r0, [%rd0];",
           "ld.local.u32 %r0, [%rd0];",
           "st.param.u32 [%rd0], %r0;",
           "atom.global.cas.b64 %rd0, [%rd1], %rd2, %rd3;",
           "bar.sync 1;",
           "bar.sync 0, 32;",
           "shfl.sync.idx.b64 %rd0, %rd1, 0, 31, -1;",
           "fence.sc.gpu;",
           "mov.u32 %r0, %laneid;",
           "mov.u32 %r0, %r99;",
           "mov.u32 %r0, %rd0;",
           "mov.u32 %r0, 4294967296;",
           "mov.f32 %f0, 0d0000000000000000;",
           "add.rn.f32 %f0, %f1;",
           "ld.global.v2.u32 {%r0, %r1, %r2}, [%rd0];",
           "ld.global.u32 %rs0, [%rd0];",
           "ld.global.u32 %r0, [%r1];",
           "bra $nowhere;",
           "@%r0 bra $nowhere;",
           ".local .align 4 .b8 stack[4];",
           ".pragma \"frequency 3\";",
       }) {
    const std::string said = refusal(line);
    EXPECT_TRUE(said.starts_with("test.ptx:")) << line << ": " << said;
  }
  EXPECT_EQ(refusal("add.s32 %r0, %r1, -1;"), "nothing");
}

TEST(Ptx, RefusesWhatItDoesNotKnowOutsideOfKernels) {
  EXPECT_THROW(read_kernels("test.ptx", ".visible .func helper(\n)\n{\n}\n"), NotUnderstood);
  EXPECT_THROW(read_kernels("test.ptx", ".const .align 4 .b8 table[4];\n"), NotUnderstood);
  EXPECT_THROW(kernel_of("ret;", ".param .texref t"), NotUnderstood);
}

// ---- Arithmetic ----

TEST(Ptx, RoundsOneOperationAtATime) {
  // 1 + 2⁻²⁴ + 2⁻²⁴: each addition is a tie that goes back to 1.
  EXPECT_EQ(float_result("mov.f32 %f1, 0f3F800000;\nmov.f32 %f2, 0f33800000;\nadd.rn.f32 %f0, %f1, %f2;\n"
                         "add.rn.f32 %f0, %f0, %f2;"),
            0x3f800000u);
  // (1 + 3·2⁻²³)² − 1 is 6·2⁻²³ where the product is rounded, and 2⁻⁴³ more where it is not.
  const std::string factors = "mov.f32 %f1, 0f3F800003;\nmov.f32 %f2, 0fBF800000;\n";
  EXPECT_EQ(float_result(factors + "mul.rn.f32 %f0, %f1, %f1;\nadd.rn.f32 %f0, %f0, %f2;"), 0x35400000u);
  EXPECT_EQ(float_result(factors + "fma.rn.f32 %f0, %f1, %f1, %f2;"), 0x35400002u);
  // The product of the smallest normal and a half is kept.
  EXPECT_EQ(float_result("mov.f32 %f1, 0f00800000;\nmov.f32 %f2, 0f3F000000;\nmul.rn.f32 %f0, %f1, %f2;"), 0x00400000u);
  EXPECT_EQ(float_result("mov.f32 %f1, 0fBF800000;\nabs.f32 %f0, %f1;"), 0x3f800000u);
  EXPECT_EQ(float_result("mov.f32 %f1, 0f80000000;\nmov.f32 %f2, 0f40000000;\ncopysign.f32 %f0, %f1, %f2;"),
            0xc0000000u);
}

TEST(Ptx, ComparesWithNan) {
  const auto compare = [](const std::string& comparison, const std::string& value) {
    return result("mov.f32 %f1, 0f7FC00000;\nmov.f32 %f2, " + value + ";\nsetp." + comparison +
                  ".f32 %p0, %f1, %f2;\nselp.u64 %rd0, 1, 0, %p0;");
  };
  for (const std::string ordered : {"eq", "ne", "lt", "le", "gt", "ge", "num"}) {
    EXPECT_EQ(compare(ordered, "0f3F800000"), 0u) << ordered;
  }
  for (const std::string unordered : {"equ", "neu", "ltu", "leu", "gtu", "geu", "nan"}) {
    EXPECT_EQ(compare(unordered, "0f3F800000"), 1u) << unordered;
  }
}

TEST(Ptx, ShiftsBeyondTheWidthOfARegister) {
  EXPECT_EQ(result("mov.u64 %rd1, 3;\nshl.b64 %rd0, %rd1, 64;"), 0u);
  EXPECT_EQ(result("mov.u64 %rd1, 3;\nshl.b64 %rd0, %rd1, 63;"), std::uint64_t{1} << 63);
  EXPECT_EQ(result("mov.u32 %r1, -2;\nshr.s32 %r0, %r1, 40;\ncvt.s64.s32 %rd0, %r0;"), ~std::uint64_t{0});
  EXPECT_EQ(result("mov.u32 %r1, -2;\nshr.u32 %r0, %r1, 32;\ncvt.u64.u32 %rd0, %r0;"), 0u);
}

TEST(Ptx, MovesBits) {
  const auto of_two = [](const std::string& line) {
    return result("mov.u32 %r1, 0x12345678;\nmov.u32 %r2, 0x9abcdef0;\n" + line + "\ncvt.u64.u32 %rd0, %r0;");
  };
  EXPECT_EQ(of_two("bfi.b32 %r0, %r1, %r2, 8, 12;"), 0x9ab678f0u);
  EXPECT_EQ(of_two("bfi.b32 %r0, %r1, %r2, 40, 8;"), 0x9abcdef0u);
  EXPECT_EQ(of_two("bfe.u32 %r0, %r2, 4, 12;"), 0xdefu);
  EXPECT_EQ(of_two("bfe.u32 %r0, %r2, 28, 32;"), 9u);
  EXPECT_EQ(of_two("bfe.u32 %r0, %r2, 40, 8;"), 0u);
  EXPECT_EQ(of_two("{ .reg .b16 tmp; mov.b32 {tmp, %rs1}, %r2; }\ncvt.u32.u16 %r0, %rs1;"), 0x9abcu);
  EXPECT_EQ(of_two("prmt.b32 %r0, %r1, %r2, 0x7510;"), 0x9ade5678u);
  EXPECT_EQ(of_two("prmt.b32 %r0, %r1, %r2, 0xC888;"), 0xff000000u);
  EXPECT_EQ(of_two("brev.b32 %r0, %r1;"), 0x1e6a2c48u);
  EXPECT_EQ(of_two("bfind.shiftamt.u32 %r0, %r1;"), 3u);
  EXPECT_EQ(of_two("bfind.shiftamt.u32 %r0, 0;"), 0xffffffffu);
  EXPECT_EQ(result("mov.u32 %r1, 1;\nmov.u32 %r2, 2;\nmov.b64 %rd0, {%r1, %r2};"), 0x200000001u);
  EXPECT_EQ(result("mov.u64 %rd1, 0x200000001;\nmov.b64 {%r1, %r2}, %rd1;\ncvt.u64.u32 %rd0, %r2;"), 2u);
}

TEST(Ptx, Converts) {
  EXPECT_EQ(result("mov.u32 %r1, 0x1ff;\ncvt.s32.s8 %r0, %r1;\ncvt.s64.s32 %rd0, %r0;"), ~std::uint64_t{0});
  EXPECT_EQ(result("mov.u32 %r1, 0x1ffff;\ncvt.u16.u32 %rs1, %r1;\ncvt.s32.s16 %r0, %rs1;\ncvt.s64.s32 %rd0, %r0;"),
            ~std::uint64_t{0});
  EXPECT_EQ(result("mov.f64 %fd1, 0d3FE0000000000000;\nmov.b64 %rd0, %fd1;"), std::bit_cast<std::uint64_t>(0.5));
  EXPECT_EQ(result("mov.f64 %fd1, 0dC000CCCCCCCCCCCD;\ncvt.rzi.s32.f64 %r0, %fd1;\ncvt.s64.s32 %rd0, %r0;"),
            static_cast<std::uint64_t>(-2));
  EXPECT_EQ(result("mov.u32 %r1, -1;\nmul.wide.s32 %rd0, %r1, 3;"), static_cast<std::uint64_t>(-3));
  EXPECT_EQ(result("mov.u32 %r1, -1;\nmul.wide.u32 %rd0, %r1, 3;"), 0x2fffffffdu);
  EXPECT_EQ(result("mov.u16 %rs1, -1;\nmul.wide.u16 %r0, %rs1, 3;\ncvt.u64.u32 %rd0, %r0;"), 0x2fffdu);
  EXPECT_EQ(result("mov.u32 %r1, -7;\nmax.s32 %r0, %r1, -9;\ncvt.s64.s32 %rd0, %r0;"), static_cast<std::uint64_t>(-7));
  EXPECT_EQ(result("mov.u32 %r1, -7;\nmin.s32 %r0, %r1, 9;\ncvt.s64.s32 %rd0, %r0;"), static_cast<std::uint64_t>(-7));
  EXPECT_EQ(result("mov.u64 %rd1, 4294967296;\nsetp.eq.b64 %p0, %rd1, 0;\nselp.b64 %rd0, 1, 2, %p0;"), 2u);
  EXPECT_EQ(result("mov.u64 %rd1, 4294967296;\nsetp.ne.b64 %p0, %rd1, 0;\nselp.b64 %rd0, 1, 2, %p0;"), 1u);
}

// ---- Memory ----

TEST(Ptx, ExtendsLoadedValues) {
  const std::string store =
      ".shared .align 8 .b8 bytes[8];\nmov.u64 %rd1, 0xfffffffffffffffe;\nst.shared.u64 [bytes], %rd1;\n";
  EXPECT_EQ(result(store + "ld.shared.s8 %r0, [bytes];\ncvt.s64.s32 %rd0, %r0;"), static_cast<std::uint64_t>(-2));
  EXPECT_EQ(result(store + "ld.shared.u8 %r0, [bytes];\ncvt.s64.s32 %rd0, %r0;"), 0xfeu);
  EXPECT_EQ(result(store + "mov.u32 %r1, bytes;\nld.shared.v2.u8 {%rs0, %rs1}, [%r1+6];\ncvt.u32.u16 %r0, %rs1;\n"
                           "cvt.u64.u32 %rd0, %r0;"),
            0xffu);
}

TEST(Ptx, ChecksEveryAccess) {
  const std::string shared = ".shared .align 8 .b8 bytes[8];\nmov.u32 %r1, bytes;\n";
  EXPECT_NE(failure(shared + "st.shared.u32 [%r1+8], %r1;\nret;").find("outside the arrays"), std::string::npos);
  EXPECT_NE(failure(shared + "st.shared.u32 [%r1+2], %r1;\nret;").find("misaligned"), std::string::npos);
  EXPECT_NE(failure(shared + "ld.shared.u32 %r0, [%r1];\nret;").find("no thread has written"), std::string::npos);
  EXPECT_NE(failure("ld.param.u64 %rd0, [out+8];\nret;").find("outside the parameters"), std::string::npos);
  EXPECT_NE(failure("ld.param.u64 %rd0, [out];\nst.global.u64 [%rd0+4], %rd0;\nret;").find("misaligned"),
            std::string::npos);
  EXPECT_NE(failure("mov.u32 %r0, 1;").find("without a return"), std::string::npos);
}

// ---- Threads that meet ----

TEST(Ptx, ShufflesAsInTheManual) {
  const auto shuffled = [](const std::string& line) {
    return results("mov.u32 %r1, %tid.x;\nmov.u32 %r2, 99;\n" + line +
                       "\ncvt.u64.u32 %rd0, %r0;\nselp.u64 %rd1, 100, 0, %p0;\nadd.s64 %rd0, %rd0, %rd1;",
                   32);
  };
  const auto down = shuffled("shfl.sync.down.b32 %r0|%p0, %r1, 2, 31, -1;");
  EXPECT_EQ(down[0], 102u);
  EXPECT_EQ(down[31], 31u);
  const auto up = shuffled("shfl.sync.up.b32 %r0|%p0, %r1, 2, 0, -1;");
  EXPECT_EQ(up[1], 1u);
  EXPECT_EQ(up[31], 129u);
  const auto butterfly = shuffled("shfl.sync.bfly.b32 %r0|%p0, %r1, 1, 31, -1;");
  EXPECT_EQ(butterfly[4], 105u);
  const auto index = shuffled("shfl.sync.idx.b32 %r0|%p0, %r1, 7, 31, -1;");
  EXPECT_EQ(index[30], 107u);
  // In segments of eight lanes.
  EXPECT_EQ(shuffled("shfl.sync.idx.b32 %r0|%p0, %r1, 1, 6175, -1;")[30], 125u);
  EXPECT_EQ(shuffled("shfl.sync.down.b32 %r0|%p0, %r1, 1, 6175, -1;")[7], 7u);
}

TEST(Ptx, Votes) {
  const std::string lines = "mov.u32 %r1, %tid.x;\nsetp.eq.u32 %p0, %r1, 5;\n";
  EXPECT_EQ(results(lines + "vote.sync.ballot.b32 %r0, %p0, -1;\ncvt.u64.u32 %rd0, %r0;", 32)[9], 32u);
  EXPECT_EQ(results(lines + "vote.sync.any.pred %p1, %p0, -1;\nselp.u64 %rd0, 1, 0, %p1;", 32)[9], 1u);
}

TEST(Ptx, MeetsAtABarrier) {
  // Each thread of two warps reads what the one after it wrote.
  const auto neighbours = results(R"(.shared .align 8 .b8 words[512];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, words;
    shl.b32 %r3, %r1, 3;
    add.s32 %r3, %r3, %r2;
    mul.wide.u32 %rd1, %r1, 10;
    st.shared.u64 [%r3], %rd1;
    bar.sync 0;
    setp.ne.u32 %p0, %r1, 63;
    @%p0 add.s32 %r3, %r3, 8;
    ld.shared.u64 %rd0, [%r3];)",
                                  64);
  EXPECT_EQ(neighbours[0], 10u);
  EXPECT_EQ(neighbours[31], 320u);
  EXPECT_EQ(neighbours[63], 630u);
  const auto any = results(R"(mov.u32 %r1, %tid.x;
    setp.eq.u32 %p0, %r1, 40;
    bar.red.or.pred %p1, 0, %p0;
    selp.u64 %rd0, 1, 0, %p1;)",
                           64);
  EXPECT_EQ(any[3], 1u);
}

TEST(Ptx, MeetsAtTheBarrierOfAWarp) {
  // Lane 0 writes late; every lane reads after the barrier.
  const auto read = results(R"(.shared .align 8 .b8 words[8];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, words;
    setp.ne.u32 %p0, %r1, 0;
    @%p0 bra $met;
    mov.u64 %rd1, 7;
    st.shared.u64 [%r2], %rd1;
    $met:
    bar.warp.sync -1;
    ld.shared.u64 %rd0, [%r2];)",
                            32);
  EXPECT_EQ(read[0], 7u);
  EXPECT_EQ(read[31], 7u);
  EXPECT_NE(failure("bar.warp.sync 1;\nret;", 2).find("without the lane itself"), std::string::npos);
}

TEST(Ptx, FindsThreadsThatDoNotMeet) {
  const std::string first = "mov.u32 %r1, %tid.x;\nsetp.eq.u32 %p0, %r1, 0;\n";
  EXPECT_NE(failure(first + "@%p0 bra $end;\nbar.sync 0;\n$end:\nret;", 32).find("not all threads come"),
            std::string::npos);
  EXPECT_NE(failure(first + "@%p0 bra $end;\nshfl.sync.idx.b32 %r0, %r1, 0, 31, -1;\n$end:\nret;", 32)
                .find("has ended or waits at a barrier"),
            std::string::npos);
  EXPECT_NE(failure("mov.u32 %r1, 5;\nshfl.sync.idx.b32 %r0, %r1, 0, 31, 1;\nret;", 2).find("without the lane itself"),
            std::string::npos);
  EXPECT_NE(failure("mov.u32 %r1, 5;\nvote.sync.ballot.b32 %r0, 1, -1;\nret;", 2).find("does not have"),
            std::string::npos);
}

TEST(Ptx, FindsSharedMemoryThatWarpsUseWithoutABarrier) {
  const std::string begin = R"(.shared .align 8 .b8 word[8];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, 1;
    setp.lt.u32 %p0, %r1, 32;
    @%p0 st.shared.u32 [word], %r2;
)";
  const std::string found = "no barrier since another warp's access";
  EXPECT_NE(
      failure(begin + "bar.sync 0;\nld.shared.u32 %r0, [word];\n@%p0 st.shared.u32 [word], %r2;\nret;", 64).find(found),
      std::string::npos);
  EXPECT_NE(failure(begin + "@!%p0 st.shared.u32 [word], %r2;\nret;", 64).find(found), std::string::npos);
  EXPECT_EQ(
      failure(begin + "bar.sync 0;\nld.shared.u32 %r0, [word];\nbar.sync 0;\n@%p0 st.shared.u32 [word], %r2;\nret;",
              64),
      "nothing");
}

}  // namespace
}  // namespace ptx
