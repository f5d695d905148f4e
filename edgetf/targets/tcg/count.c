/*
 * Counts the instructions that a program under qemu-user executes, by class, between marks that it sets itself.
 *
 * Why: an emulated processor has no clock that means anything, but the instructions that it is given are those that
 * the real one would get. They are counted where qemu translates a block of them: the block then carries one addition
 * for each class that occurs in it, which is exact (but for a block that a signal leaves early) and cheap.
 *
 * The program marks a moment by a system call that does nothing else, getpriority(MARK, k): MARK is no kind of
 * process that the kernel knows, so it answers EINVAL. At each mark the counts of all so far are written, as
 *
 *     {"marks": [{"mark": 0, "total": 123, "fmla": 4, ...}, ...]}
 *
 * to the file given as `out=FILE`: a program that is killed afterwards has said what it had to. Counters are shared by
 * all threads without a lock: run with one thread.
 *
 * qemu's plugin interface, version 1 (qemu 6.0 to 8.2), is declared here, because Debian ships its header nowhere.
 * Source: QEMU documentation, "QEMU TCG Plugins". Encodings: Arm Architecture Reference Manual for A-profile, C4.1.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
typedef void (*tb_trans_cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*syscall_cb)(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2,
                           uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_trans_cb cb);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op, void *counter,
                                              uint64_t add);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, syscall_cb cb);

EXPORT int qemu_plugin_version = 1;

enum { GETPRIORITY = 141, MARK = 0x65666d6b }; /* the number of the call on arm64; "efmk" */
enum { MARKS = 4096, PATH_BYTES = 4096 };

enum class { FMLA, MLAL, DOT, MMLA, SIMD, LOAD_STORE, BRANCH, OTHER, CLASSES };
static const char *const NAMES[CLASSES] = {"fmla", "mlal", "dot", "mmla", "simd", "load_store", "branch", "other"};

/* An instruction belongs to the first class with a pattern that its bits match under the mask. */
static const struct {
    uint32_t mask, bits;
    enum class class;
} PATTERNS[] = {
    {0xBFA0FC00, 0x0E20CC00, FMLA}, /* FMLA vector, single and double */
    {0xBF80F400, 0x0F801000, FMLA}, /* FMLA by element */
    {0xBFE0FC00, 0x0E400C00, FMLA}, /* FMLA vector, half */
    {0xBFC0F400, 0x0F001000, FMLA}, /* FMLA by element, half */
    {0x9F20FC00, 0x0E208000, MLAL}, /* SMLAL, UMLAL: multiply bytes or halves, add into twice the width */
    {0x9F00F400, 0x0F002000, MLAL}, /* the same by element */
    {0x9F20FC00, 0x0E20C000, MLAL}, /* SMULL, UMULL: the same without the addition */
    {0x9F00F400, 0x0F00A000, MLAL}, /* the same by element */
    {0x9FE0FC00, 0x0E809400, DOT},  /* SDOT, UDOT: four bytes by four into 32 bits */
    {0x9FC0F400, 0x0F80E000, DOT},  /* the same by element */
    {0xBFE0FC00, 0x0E809C00, DOT},  /* USDOT */
    {0xBF40F400, 0x0F00F000, DOT},  /* USDOT, SUDOT by element */
    {0xDFE0FC00, 0x4E80A400, MMLA}, /* SMMLA, UMMLA: 2 x 8 by 8 x 2 bytes into four 32 bits */
    {0xFFE0FC00, 0x4E80AC00, MMLA}, /* USMMLA */
    {0x0E000000, 0x0E000000, SIMD}, /* all else that computes in floating point or in vectors */
    {0x0A000000, 0x08000000, LOAD_STORE},
    {0x1C000000, 0x14000000, BRANCH}, /* system calls and barriers stand in this group too */
};

struct counts {
    uint64_t total, of[CLASSES];
};
static struct counts now, marked[MARKS];
static uint64_t numbers[MARKS], marks;
static char out[PATH_BYTES];

/* The class of an instruction word; exported, so that a test can ask it. */
EXPORT int edgetf_class_of(uint32_t word)
{
    for (size_t k = 0; k < sizeof PATTERNS / sizeof PATTERNS[0]; k++) {
        if ((word & PATTERNS[k].mask) == PATTERNS[k].bits) {
            return PATTERNS[k].class;
        }
    }
    return OTHER;
}

EXPORT const char *edgetf_class_name(int class)
{
    return class >= 0 && class < CLASSES ? NAMES[class] : NULL;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct counts here = {0};
    here.total = qemu_plugin_tb_n_insns(tb);
    for (size_t k = 0; k < here.total; k++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, k)), sizeof word);
        here.of[edgetf_class_of(word)]++;
    }
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &now.total, here.total);
    for (int k = 0; k < CLASSES; k++) {
        if (here.of[k] > 0) {
            qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &now.of[k], here.of[k]);
        }
    }
}

static void write_marks(void)
{
    FILE *file = fopen(out, "w");
    if (file == NULL) {
        perror(out);
        return;
    }
    fputs("{\"marks\": [", file);
    for (uint64_t k = 0; k < marks; k++) {
        fprintf(file, "%s\n{\"mark\": %" PRIu64 ", \"total\": %" PRIu64, k > 0 ? "," : "", numbers[k], marked[k].total);
        for (int class = 0; class < CLASSES; class++) {
            fprintf(file, ", \"%s\": %" PRIu64, NAMES[class], marked[k].of[class]);
        }
        fputs("}", file);
    }
    fputs("]}\n", file);
    fclose(file);
}

static void called(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                   uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)vcpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == GETPRIORITY && a1 == MARK && marks < MARKS) {
        numbers[marks] = a2;
        marked[marks++] = now;
        write_marks();
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    static const char KEY[] = "out=";
    for (int k = 0; k < argc; k++) {
        if (strncmp(argv[k], KEY, sizeof KEY - 1) == 0 && strlen(argv[k]) < PATH_BYTES) {
            strcpy(out, argv[k] + sizeof KEY - 1);
        }
    }
    if (out[0] == '\0') {
        fputs("count: give out=FILE\n", stderr);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
