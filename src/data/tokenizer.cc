/* SentencePiece behind the functions of data.h. Nothing here lets an exception out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

extern "C" {
#include "data_internal.h"
#include "duo/arena.h"
#include "duo/utf8.h"
}

namespace
{

/* SentencePiece's mark for a space (U+2581), in UTF-8. */
constexpr std::string_view SPACE_MARK = "\xE2\x96\x81";

/* How the encoding of a text follows from those of its parts. */
enum class Parts {
    WORDS,    /* no rule and no piece reaches across the begin of a word */
    PREFIXED, /* as WORDS, but the model puts a space in front of every text */
    WHOLE     /* unknown: only the whole text will do */
};

} // namespace

struct duo_tokenizer {
    sentencepiece::SentencePieceProcessor processor;
    std::string model;
    std::vector<std::string> text;    /* what each id stands for */
    std::vector<std::string> display; /* the same, as text that can be shown */
    std::vector<int> space_mark;      /* byte ids of U+2581; empty when the model has none */
    Parts parts = Parts::WHOLE;
};

namespace
{

duo_status internal_error(const char *what)
{
    return duo_fail(DUO_EINVAL, "SentencePiece: %s", what);
}

/* Run body, which may throw, and return its status. */
template <typename Body> duo_status guarded(Body &&body) noexcept
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return duo_fail(DUO_ENOMEM, "no memory for the tokenizer");
    } catch (const std::exception &error) {
        return internal_error(error.what());
    } catch (...) {
        return internal_error("unknown failure");
    }
}

/* ---------------------------------------------------------------- loading */

void replace_all(std::string &text, std::string_view from, std::string_view to)
{
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
}

void add_piece(duo_tokenizer &t, int id)
{
    const std::string &piece = t.processor.IdToPiece(id);
    std::string text, display = piece;
    if (t.processor.IsByte(id)) { /* "<0x0A>" */
        text = static_cast<char>(std::strtoul(piece.c_str() + 3, nullptr, 16));
        const unsigned char byte = static_cast<unsigned char>(text[0]);
        if (byte > 0 && byte < 0x80) display = text;
    } else if (t.processor.IsUnknown(id)) {
        text = "\xEF\xBF\xBD"; /* the replacement character */
    } else if (!t.processor.IsControl(id)) {
        replace_all(display, SPACE_MARK, " ");
        text = display;
    }
    t.text.push_back(std::move(text));
    t.display.push_back(std::move(display));
}

/* A space behind another character, or a line feed beside one: not within a word. */
bool crosses_words(const std::string &text)
{
    for (size_t i = 1; i < text.size(); i++)
        if ((text[i] == ' ' && text[i - 1] != ' ') || text[i] == '\n' || text[i - 1] == '\n')
            return true;
    return false;
}

/* A text as its ids give it back, with what the model's rules add and drop. */
std::string through(const duo_tokenizer &t, std::string_view text)
{
    std::string back;
    for (const int id : t.processor.EncodeAsIds(text)) back += t.text[static_cast<size_t>(id)];
    return back;
}

Parts find_parts(const duo_tokenizer &t)
{
    for (const std::string &text : t.text)
        if (crosses_words(text)) return Parts::WHOLE;
    if (through(t, "  a  b ") == "  a  b " && !t.space_mark.empty()) return Parts::WORDS;
    return through(t, "a b") == " a b" ? Parts::PREFIXED : Parts::WHOLE;
}

duo_status load(duo_tokenizer &t, std::string model, const char *where)
{
    const auto status = t.processor.LoadFromSerializedProto(model);
    if (model.empty() || !status.ok())
        return duo_fail(DUO_EDATA, "%s: not a SentencePiece model", where);
    t.model = std::move(model);
    const int size = t.processor.GetPieceSize();
    for (int id = 0; id < size; id++) add_piece(t, id);
    for (const char byte : SPACE_MARK) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte) & 0xFF);
        const int id = t.processor.PieceToId(name);
        if (t.processor.IsByte(id)) t.space_mark.push_back(id);
    }
    if (t.space_mark.size() < SPACE_MARK.size()) t.space_mark.clear();
    t.parts = find_parts(t);
    return DUO_OK;
}

/* ---------------------------------------------------------------- encoding */

/* Bytes of the first word: spaces and what follows them, a line feed, or a U+2581, which the
 * model would take for a space. */
size_t word_length(std::string_view text)
{
    const auto is_mark = [text](size_t at) { return text.compare(at, 3, SPACE_MARK) == 0; };
    if (text[0] == '\n') return 1;
    if (is_mark(0)) return SPACE_MARK.size();
    size_t i = 0;
    while (i < text.size() && text[i] == ' ') i++;
    while (i < text.size() && text[i] != ' ' && text[i] != '\n' &&
           !(text[i] == SPACE_MARK[0] && is_mark(i)))
        i++;
    return i;
}

duo_status encode_whole(const duo_tokenizer &t, std::string_view text, std::vector<int> *ids)
{
    const auto status = t.processor.Encode(text, ids);
    return status.ok() ? DUO_OK : internal_error(status.error_message());
}

/* Texts repeat their words: each different one goes through SentencePiece once. */
duo_status encode_words(const duo_tokenizer &t, std::string_view text, std::vector<int> *ids)
{
    std::unordered_map<std::string_view, std::vector<int>> known{{SPACE_MARK, t.space_mark}};
    while (!text.empty()) {
        const std::string_view word = text.substr(0, word_length(text));
        const auto [entry, is_new] = known.try_emplace(word);
        if (is_new) {
            const duo_status status = encode_whole(t, word, &entry->second);
            if (status != DUO_OK) return status;
        }
        ids->insert(ids->end(), entry->second.begin(), entry->second.end());
        text.remove_prefix(word.size());
    }
    return DUO_OK;
}

duo_status encode(const duo_tokenizer &t, std::string_view text, std::vector<int> *ids)
{
    return t.parts == Parts::WORDS ? encode_words(t, text, ids) : encode_whole(t, text, ids);
}

/* A copy in memory of malloc, which C can free; one element more than n, zeroed. */
template <typename T, typename U> T *copy_out(const U *data, size_t n)
{
    T *copy = static_cast<T *>(calloc(n + 1, sizeof(T)));
    if (!copy) throw std::bad_alloc();
    for (size_t i = 0; i < n; i++) copy[i] = static_cast<T>(data[i]);
    return copy;
}

/* ---------------------------------------------------------------- training */

class Lines : public sentencepiece::SentenceIterator
{
  public:
    Lines(data_next_line *next, void *context) : next_(next), context_(context)
    {
        Next();
    }
    bool done() const override
    {
        return done_;
    }
    void Next() override
    {
        const char *line = nullptr;
        size_t bytes = 0;
        done_ = !next_(context_, &line, &bytes);
        if (!done_) line_.assign(line, bytes);
    }
    const std::string &value() const override
    {
        return line_;
    }
    sentencepiece::util::Status status() const override
    {
        return {};
    }

  private:
    data_next_line *next_;
    void *context_;
    bool done_ = false;
    std::string line_;
};

/* Pieces that every vocabulary of ours has. */
constexpr size_t MARKS_AND_BYTES = 3 + 256;

duo_status too_small(size_t vocab_size, size_t needed, const char *where)
{
    return duo_fail(DUO_EINVAL,
                    "%s: a vocabulary of %zu is too small: marks, bytes and the characters of the "
                    "text are at least %zu pieces",
                    where, vocab_size, needed);
}

/* SentencePiece says "Vocabulary size is smaller than required_chars. 270 vs 306. ..." */
duo_status training_failed(const char *message, size_t vocab_size, const char *where)
{
    const char *needed = strstr(message, "smaller than required_chars");
    if (needed) needed = strstr(needed, " vs ");
    if (!needed) return duo_fail(DUO_EINVAL, "%s: no vocabulary: %s", where, message);
    return too_small(vocab_size, std::strtoul(needed + 4, nullptr, 10), where);
}

duo_status train(duo_tokenizer **tokenizer, size_t vocab_size, bool *too_large,
                 data_next_line *next, void *context, const char *where)
{
    if (vocab_size < MARKS_AND_BYTES) return too_small(vocab_size, MARKS_AND_BYTES, where);
    Lines lines(next, context);
    if (lines.done()) return duo_fail(DUO_EINVAL, "%s: no text to train a vocabulary on", where);
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(
        {{"model_type", "bpe"},
         {"vocab_size", std::to_string(vocab_size)},
         {"hard_vocab_limit", "false"}, /* what came out is checked below */
         {"byte_fallback", "true"},
         {"character_coverage", "0.9995"},
         {"split_digits", "true"},
         {"allow_whitespace_only_pieces", "true"},
         {"max_sentence_length", std::to_string(DATA_MAX_LINE)},
         {"normalization_rule_name", "identity"},
         {"add_dummy_prefix", "false"},
         {"remove_extra_whitespaces", "false"},
         {"unk_id", "0"},
         {"bos_id", "1"},
         {"eos_id", "2"},
         {"pad_id", "-1"},
         {"num_threads", "1"},
         {"minloglevel", "2"}},
        &lines, &model);
    if (!status.ok()) return training_failed(status.error_message(), vocab_size, where);
    const duo_status created = duo_tokenizer_create(tokenizer, model.data(), model.size(), where);
    if (created != DUO_OK) return created;
    const size_t got = duo_tokenizer_vocab_size(*tokenizer);
    if (got == vocab_size) return DUO_OK;
    duo_tokenizer_free(*tokenizer);
    *tokenizer = nullptr;
    *too_large = true;
    return duo_fail(DUO_EINVAL,
                    "%s: a vocabulary of %zu is too large: the text supports %zu pieces", where,
                    vocab_size, got);
}

} // namespace

/* ---------------------------------------------------------------- for C */

duo_status duo_tokenizer_create(duo_tokenizer **tokenizer, const void *model, size_t bytes,
                                const char *where)
{
    *tokenizer = nullptr;
    /* SentencePiece ends the process where its memory runs out: there must be more than it takes.
     */
    const duo_status status = duo_memory_check((static_cast<size_t>(4) << 20) + 64 * bytes, where);
    if (status != DUO_OK) return status;
    return guarded([&] {
        auto made = std::make_unique<duo_tokenizer>();
        const duo_status loaded =
            load(*made, std::string(static_cast<const char *>(model), bytes), where);
        if (loaded == DUO_OK) *tokenizer = made.release();
        return loaded;
    });
}

void duo_tokenizer_free(duo_tokenizer *tokenizer)
{
    delete tokenizer;
}

duo_status data_tokenizer_train(duo_tokenizer **tokenizer, size_t vocab_size, bool *too_large,
                                data_next_line *next, void *context, const char *where)
{
    *tokenizer = nullptr;
    *too_large = false;
    return guarded([&] { return train(tokenizer, vocab_size, too_large, next, context, where); });
}

size_t duo_tokenizer_vocab_size(const duo_tokenizer *tokenizer)
{
    return tokenizer->text.size();
}

const void *duo_tokenizer_model(const duo_tokenizer *tokenizer, size_t *bytes)
{
    *bytes = tokenizer->model.size();
    return tokenizer->model.data();
}

int32_t duo_tokenizer_bos(const duo_tokenizer *tokenizer)
{
    return tokenizer->processor.bos_id();
}

int32_t duo_tokenizer_eos(const duo_tokenizer *tokenizer)
{
    return tokenizer->processor.eos_id();
}

size_t data_segment(const duo_tokenizer *tokenizer, const char *text, size_t bytes, size_t *skip)
{
    /* Large enough to meet words again; without words, where a model's work grows faster than
     * the text, small. */
    const size_t least = tokenizer->parts == Parts::WORDS ? 1 << 20 : 1 << 13;
    const auto is_visible = [](char c) { return c > ' ' && c < 0x7F; };
    *skip = 0;
    if (tokenizer->parts == Parts::WHOLE) return bytes;
    for (size_t i = least; i + 1 < bytes; i++) {
        if (text[i] != ' ' || !is_visible(text[i - 1]) || !is_visible(text[i + 1])) continue;
        *skip = tokenizer->parts == Parts::PREFIXED; /* the model puts this space back */
        return i;
    }
    return bytes;
}

duo_status data_segment_encode(const duo_tokenizer *tokenizer, const char *text, size_t bytes,
                               int32_t **ids, size_t *n)
{
    *ids = nullptr;
    *n = 0;
    return guarded([&] {
        std::vector<int> all;
        const duo_status status = encode(*tokenizer, std::string_view(text, bytes), &all);
        if (status != DUO_OK) return status;
        *ids = copy_out<int32_t>(all.data(), all.size());
        *n = all.size();
        return DUO_OK;
    });
}

duo_status duo_tokenizer_encode(const duo_tokenizer *tokenizer, const char *text, size_t bytes,
                                int32_t **ids, size_t *n)
{
    *ids = nullptr;
    *n = 0;
    const size_t valid = duo_utf8_prefix(text, bytes);
    if (valid < bytes) return duo_fail(DUO_EINVAL, "byte %zu of the text: not UTF-8", valid);
    return guarded([&] {
        std::vector<int> all, part;
        for (size_t start = 0, skip = 0; start < bytes;) {
            const size_t length = data_segment(tokenizer, text + start, bytes - start, &skip);
            part.clear();
            const duo_status status =
                encode(*tokenizer, std::string_view(text + start, length), &part);
            if (status != DUO_OK) return status;
            all.insert(all.end(), part.begin(), part.end());
            start += length + skip;
        }
        *ids = copy_out<int32_t>(all.data(), all.size());
        *n = all.size();
        return DUO_OK;
    });
}

duo_status duo_tokenizer_decode(const duo_tokenizer *tokenizer, const int32_t *ids, size_t n,
                                char **text, size_t *bytes)
{
    *text = nullptr;
    *bytes = 0;
    const size_t V = tokenizer->text.size();
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= V)
            return duo_fail(DUO_EINVAL, "token %zu: id %d is outside the vocabulary of %zu", i,
                            (int)ids[i], V);
    return guarded([&] {
        std::string all;
        for (size_t i = 0; i < n; i++) all += tokenizer->text[(size_t)ids[i]];
        const size_t start = tokenizer->parts == Parts::PREFIXED && !all.empty() && all[0] == ' ';
        *text = copy_out<char>(all.data() + start, all.size() - start);
        *bytes = all.size() - start;
        return DUO_OK;
    });
}

size_t duo_tokenizer_piece_bytes(const duo_tokenizer *tokenizer, int32_t id)
{
    return tokenizer->text[(size_t)id].size();
}

const char *duo_tokenizer_piece(const duo_tokenizer *tokenizer, int32_t id)
{
    return tokenizer->display[(size_t)id].c_str();
}
