#include "duo/config.h"

#include <string.h>

static const char *const module_names[DUO_MODULES] = {"skip", "small", "big"};
static const char *const input_names[DUO_ROUTER_INPUTS] = {"budget", "previous", "position"};

const char *duo_module_name(duo_module module)
{
    return module_names[module];
}

size_t duo_module_count(duo_module_set set)
{
    return (size_t)__builtin_popcount(set);
}

size_t duo_module_codes(duo_module codes[DUO_MODULES], duo_module_set set)
{
    size_t n = 0;
    for (duo_module m = 0; m < DUO_MODULES; m++)
        if (duo_module_in(set, m)) codes[n++] = m;
    return n;
}

char duo_module_letter(duo_module module)
{
    return "-SB"[module];
}

bool duo_module_of_letter(duo_module *module, char letter)
{
    static const char letters[] = "-SsBb";
    const char *at = letter != '\0' ? strchr(letters, letter) : NULL;
    if (at) *module = (duo_module)((at - letters + 1) / 2);
    return at != NULL;
}

/* Names of a set in ascending order, with commas between them. */
static char *write_set(char *text, unsigned set, const char *const *names, unsigned n)
{
    text[0] = '\0';
    for (unsigned i = 0; i < n; i++) {
        if ((set >> i & 1u) == 0) continue;
        if (text[0]) strcat(text, ",");
        strcat(text, names[i]);
    }
    return text;
}

static bool read_set(unsigned *set, const char *text, const char *const *names, unsigned n)
{
    *set = 0;
    while (*text) {
        const size_t length = strcspn(text, ",");
        unsigned i = 0;
        while (i < n && (strlen(names[i]) != length || strncmp(text, names[i], length) != 0)) i++;
        if (i == n || (*set >> i & 1u) != 0) return false;
        *set |= 1u << i;
        text += length;
        if (*text == ',' && *++text == '\0') return false;
    }
    return *set != 0;
}

char *duo_module_set_text(char text[16], duo_module_set set)
{
    return write_set(text, set, module_names, DUO_MODULES);
}

bool duo_module_set_parse(duo_module_set *set, const char *text)
{
    return read_set(set, text, module_names, DUO_MODULES);
}

char *duo_router_inputs_text(char text[32], duo_router_inputs set)
{
    return set == 0 ? strcpy(text, "none") : write_set(text, set, input_names, DUO_ROUTER_INPUTS);
}

bool duo_router_inputs_parse(duo_router_inputs *set, const char *text)
{
    *set = 0;
    return strcmp(text, "none") == 0 || read_set(set, text, input_names, DUO_ROUTER_INPUTS);
}

duo_status duo_config_check(const duo_config *c, const char *where)
{
    const struct {
        const char *key;
        size_t value, most;
    } sizes[] = {
        {"n_layers", c->n_layers, DUO_MAX_LAYERS},
        {"d_model", c->d_model, 65536},
        {"n_heads", c->n_heads, 1024},
        {"n_kv_heads", c->n_kv_heads, 1024},
        {"d_big", c->d_big, 1 << 20},
        {"d_small", c->d_small, 1 << 20},
        {"vocab_size", c->vocab_size, DUO_VOCAB_MAX},
        {"max_seq", c->max_seq, 1 << 20},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].most)
            return duo_fail(DUO_EINVAL, "%s: %s is %zu, outside 1..%zu", where, sizes[i].key,
                            sizes[i].value, sizes[i].most);
    if (c->d_model % c->n_heads != 0)
        return duo_fail(DUO_EINVAL, "%s: n_heads %zu does not divide d_model %zu", where,
                        c->n_heads, c->d_model);
    if (duo_head_width(c) % 2 != 0)
        return duo_fail(DUO_EINVAL,
                        "%s: the head width d_model / n_heads is %zu; RoPE needs it even", where,
                        duo_head_width(c));
    if (c->n_heads % c->n_kv_heads != 0)
        return duo_fail(DUO_EINVAL, "%s: n_kv_heads %zu does not divide n_heads %zu", where,
                        c->n_kv_heads, c->n_heads);
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        return duo_fail(DUO_EINVAL, "%s: norm_eps is %g, outside 0..1", where, c->norm_eps);
    if (!(c->rope_theta >= 1 && c->rope_theta <= 1e12))
        return duo_fail(DUO_EINVAL, "%s: rope_theta is %g, outside 1..1e12", where, c->rope_theta);
    if (c->router_modules >> DUO_MODULES != 0 || duo_module_count(c->router_modules) == 1)
        return duo_fail(DUO_EINVAL, "%s: router_modules must name two or three modules", where);
    if (c->router_hidden > 65536 || c->router_inputs >> DUO_ROUTER_INPUTS != 0)
        return duo_fail(DUO_EINVAL, "%s: router_hidden %zu or router_inputs %x is out of range",
                        where, c->router_hidden, c->router_inputs);
    if (c->router_modules == 0 && (c->router_hidden > 0 || c->router_inputs != 0))
        return duo_fail(DUO_EINVAL, "%s: router_hidden and router_inputs need router_modules",
                        where);
    return DUO_OK;
}

bool duo_config_same_routers(const duo_config *a, const duo_config *b)
{
    return a->router_modules == b->router_modules && a->router_hidden == b->router_hidden &&
           a->router_inputs == b->router_inputs;
}

const char *duo_config_difference(const duo_config *a, const duo_config *b)
{
#define COMPARE(key)                                                                               \
    if (a->key != b->key) return #key
    COMPARE(arch);
    COMPARE(n_layers);
    COMPARE(d_model);
    COMPARE(n_heads);
    COMPARE(n_kv_heads);
    COMPARE(d_big);
    COMPARE(d_small);
    COMPARE(vocab_size);
    COMPARE(max_seq);
    COMPARE(norm_eps);
    COMPARE(rope_theta);
    COMPARE(tied_embeddings);
#undef COMPARE
    return NULL;
}
