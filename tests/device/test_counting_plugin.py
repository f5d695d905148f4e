"""The counting plugin puts every instruction into its class."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgetf.targets.arm64_root import PLUGIN_SOURCE

# Words as GNU as writes them for armv8.6-a.
WORDS = {
    0x4E22CC20: "fmla",  # fmla v0.4s, v1.4s, v2.4s
    0x4FC21820: "fmla",  # fmla v0.2d, v1.2d, v2.d[1]
    0x4FA21820: "fmla",  # fmla v0.4s, v1.4s, v2.s[3]
    0x4E420C20: "fmla",  # fmla v0.8h, v1.8h, v2.8h
    0x4F321820: "fmla",  # fmla v0.8h, v1.8h, v2.h[7]
    0x0E628020: "mlal",  # smlal v0.4s, v1.4h, v2.4h
    0x4F522820: "mlal",  # smlal2 v0.4s, v1.8h, v2.h[5]
    0x2E228020: "mlal",  # umlal v0.8h, v1.8b, v2.8b
    0x0E22C020: "mlal",  # smull v0.8h, v1.8b, v2.8b
    0x6F62A020: "mlal",  # umull2 v0.4s, v1.8h, v2.h[2]
    0x4E829420: "dot",  # sdot v0.4s, v1.16b, v2.16b
    0x4FA2E820: "dot",  # sdot v0.4s, v1.16b, v2.4b[3]
    0x6E829420: "dot",  # udot v0.4s, v1.16b, v2.16b
    0x2FA2E020: "dot",  # udot v0.2s, v1.8b, v2.4b[1]
    0x4E829C20: "dot",  # usdot v0.4s, v1.16b, v2.16b
    0x4F82F820: "dot",  # usdot v0.4s, v1.16b, v2.4b[2]
    0x4F02F820: "dot",  # sudot v0.4s, v1.16b, v2.4b[2]
    0x4E82A420: "mmla",  # smmla v0.4s, v1.16b, v2.16b
    0x6E82A420: "mmla",  # ummla v0.4s, v1.16b, v2.16b
    0x4E82AC20: "mmla",  # usmmla v0.4s, v1.16b, v2.16b
    0x4E22D420: "simd",  # fadd v0.4s, v1.4s, v2.4s
    0x4EA2CC20: "simd",  # fmls v0.4s, v1.4s, v2.4s
    0x1F020C20: "simd",  # fmadd s0, s1, s2, s3
    0x4E606820: "simd",  # sadalp v0.4s, v1.8h
    0x4F62F020: "simd",  # bfdot v0.4s, v1.8h, v2.2h[1]
    0x3DC00000: "load_store",  # ldr q0, [x0]
    0xA94107E0: "load_store",  # ldp x0, x1, [sp, #16]
    0x4CDF7000: "load_store",  # ld1 {v0.16b}, [x0], #16
    0xC85F7C20: "load_store",  # ldxr x0, [x1]
    0x14000000: "branch",  # b .
    0xD65F03C0: "branch",  # ret
    0xB4000000: "branch",  # cbz x0, .
    0x8B020020: "other",  # add x0, x1, x2
    0xD2800060: "other",  # mov x0, #3
    0x9B020C20: "other",  # madd x0, x1, x2, x3
}

HARNESS = """
#include <stdlib.h>
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb) { (void)tb; return 0; }
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t k)
{ (void)tb, (void)k; return NULL; }
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn) { (void)insn; return NULL; }
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_trans_cb cb) { (void)id, (void)cb; }
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op, void *to, uint64_t k)
{ (void)tb, (void)op, (void)to, (void)k; }
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, syscall_cb cb) { (void)id, (void)cb; }
int main(int argc, char **argv)
{
    for (int k = 1; k < argc; k++) {
        puts(edgetf_class_name(edgetf_class_of((uint32_t)strtoul(argv[k], NULL, 0))));
    }
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_every_instruction_has_its_class(tmp_path: Path) -> None:
    source, program = tmp_path / "harness.c", tmp_path / "harness"
    source.write_text(f'#include "{PLUGIN_SOURCE}"\n{HARNESS}')
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(["cc", *strict, str(source), "-o", str(program)], check=True)
    done = subprocess.run([program, *(f"{word:#010x}" for word in WORDS)], capture_output=True, text=True, check=True)
    assert dict(zip(WORDS, done.stdout.split(), strict=True)) == WORDS
