/* A rule: it judges numbers, and reaches nothing.
 *
 * This one breaches above a limit and, once it fires, until the value falls below another. How long a breach must last
 * (`for`, `keep`), what happens without data and who is told is the host's affair. */

#include "json.h"
#include "rule_plugin.h"
#include <math.h>

static double limit, clear;

static const char *SCHEMA =
    "{\"type\": \"object\", \"properties\": {"
    "\"limit\": {\"type\": \"number\", \"description\": \"above it, it is a breach\"}, "
    "\"clear\": {\"type\": \"number\", \"description\": \"what fires goes on until it is at or below this\"}}, "
    "\"required\": [\"limit\"]}";

void exports_watchfire_plugin_rule_describe(exports_watchfire_plugin_rule_description_t *ret) {
  memset(ret, 0, sizeof *ret);
  rule_plugin_string_dup(&ret->name, "@NAME@");
  rule_plugin_string_dup(&ret->version, "0.1.0");
  rule_plugin_string_dup(&ret->summary, "@SUMMARY@");
  ret->config_schema.is_some = true;
  rule_plugin_string_dup(&ret->config_schema.val, SCHEMA);
}

static bool refused(exports_watchfire_plugin_rule_error_t *err, const char *text) {
  err->tag = WATCHFIRE_PLUGIN_TYPES_ERROR_CONFIG;
  rule_plugin_string_dup(&err->val.config, text);
  return false;
}

/* An error here refuses the configuration before anything changes: say what to write instead. */
bool exports_watchfire_plugin_rule_configure(rule_plugin_string_t *config, rule_plugin_list_string_t *inputs,
                                             exports_watchfire_plugin_rule_needs_t *ret,
                                             exports_watchfire_plugin_rule_error_t *err) {
  char *json = strndup((char *)config->ptr, config->len);
  limit = json_number(json, "limit", NAN);
  clear = json_number(json, "clear", limit);
  if (isnan(limit)) return refused(err, "config.limit: write the value above which it is a breach, like limit = 10");
  if (inputs->len != 1) return refused(err, "the inputs: this plugin judges one: write metric = \"…\"");
  if (clear > limit)
    return refused(err, "config.clear: write a value at or below the limit, like limit = 10, clear = 8");
  memset(ret, 0, sizeof *ret); /* neither labels, nor memory, nor points */
  return true;
}

/* One round: every list has one entry an instance. Equal rounds give equal verdicts: no clock, no chance. */
bool exports_watchfire_plugin_rule_evaluate(exports_watchfire_plugin_rule_batch_t *batch,
                                            exports_watchfire_plugin_rule_verdicts_t *ret,
                                            exports_watchfire_plugin_rule_error_t *err) {
  (void)err;
  size_t count = batch->active.len;
  memset(ret, 0, sizeof *ret);
  ret->breached.ptr = calloc(count, sizeof *ret->breached.ptr);
  ret->values.ptr = calloc(count, sizeof *ret->values.ptr);
  ret->limits.ptr = calloc(count, sizeof *ret->limits.ptr);
  ret->breached.len = ret->values.len = ret->limits.len = count;
  for (size_t i = 0; i < count; i++) {
    double value = batch->columns.ptr[0].ptr[i];
    double held = batch->active.ptr[i] ? clear : limit;
    bool known = !isnan(value); /* unknown never fires and never resolves */
    ret->values.ptr[i] = value;
    ret->limits.ptr[i] = known ? held : NAN;
    ret->breached.ptr[i].is_some = known;
    ret->breached.ptr[i].val = value > held ? WATCHFIRE_PLUGIN_TYPES_SEVERITIES_WARNING : 0;
  }
  return true;
}
