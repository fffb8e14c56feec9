/* The little of JSON that a plugin's table needs: top-level keys with numbers and texts, and quoting. */
#include <stdlib.h>
#include <string.h>

/* The value of a top-level key, or null. */
__attribute__((unused)) static const char *json_find(const char *at, const char *key) {
  int depth = 0;
  for (; *at; at++) {
    if (*at == '{' || *at == '[') depth++;
    if (*at == '}' || *at == ']') depth--;
    if (*at != '"') continue;
    const char *start = ++at;
    while (*at && *at != '"') at += *at == '\\' && at[1] ? 2 : 1;
    size_t length = (size_t)(at - start);
    if (!*at) return NULL;
    const char *next = at + 1;
    while (*next == ' ') next++;
    if (depth == 1 && *next == ':' && length == strlen(key) && !memcmp(start, key, length)) {
      for (next++; *next == ' ';) next++;
      return next;
    }
  }
  return NULL;
}

__attribute__((unused)) static double json_number(const char *json, const char *key, double otherwise) {
  const char *value = json_find(json, key);
  return value ? strtod(value, NULL) : otherwise;
}

/* An allocated copy of a text, or null. Escapes other than \" \\ \/ \n \t stay as they are. */
__attribute__((unused)) static char *json_text(const char *json, const char *key) {
  const char *at = json_find(json, key);
  if (!at || *at++ != '"') return NULL;
  char *text = malloc(strlen(at) + 1), *end = text;
  for (; *at && *at != '"'; at++) {
    if (*at == '\\' && at[1] && strchr("\"\\/nt", at[1])) {
      at++;
      *end++ = *at == 'n' ? '\n' : *at == 't' ? '\t' : *at;
    } else {
      *end++ = *at;
    }
  }
  *end = 0;
  return text;
}

/* Appends a text in quotes; `to` must have room for six times its length and three more. */
__attribute__((unused)) static void json_quote(char *to, const char *text, size_t length) {
  to += strlen(to);
  *to++ = '"';
  for (size_t i = 0; i < length; i++) {
    unsigned char letter = (unsigned char)text[i];
    if (letter == '"' || letter == '\\') *to++ = '\\';
    if (letter < ' ') {
      const char *digits = "0123456789abcdef";
      memcpy(to, "\\u00", 4);
      to[4] = digits[letter >> 4];
      to[5] = digits[letter & 15];
      to += 6;
    } else {
      *to++ = (char)letter;
    }
  }
  *to++ = '"';
  *to = 0;
}
