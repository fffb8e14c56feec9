/* A probe: it looks at something and answers with numbers.
 *
 * This one reads the load of the host and holds it against a limit. Put what you want to watch in the place of
 * `collect`. */

#include "json.h"
#include "probe_plugin.h"

static double limit;

static const char *SCHEMA =
    "{\"type\": \"object\", \"properties\": {\"limit\": {\"type\": \"number\", "
    "\"description\": \"the load that counts as full, 4 if left out\"}}}";

void exports_watchfire_plugin_probe_describe(exports_watchfire_plugin_probe_description_t *ret) {
  memset(ret, 0, sizeof *ret);
  probe_plugin_string_dup(&ret->name, "@NAME@");
  probe_plugin_string_dup(&ret->version, "0.1.0");
  probe_plugin_string_dup(&ret->summary, "@SUMMARY@");
  ret->config_schema.is_some = true;
  probe_plugin_string_dup(&ret->config_schema.val, SCHEMA);
  /* What to ask the operator for; nothing is allowed until it stands in the configuration. */
  ret->wants.ptr = malloc(sizeof *ret->wants.ptr);
  ret->wants.len = 1;
  probe_plugin_string_dup(&ret->wants.ptr[0], "system");
}

/* An error here refuses the configuration before anything changes: say what to write instead. */
bool exports_watchfire_plugin_probe_configure(probe_plugin_string_t *config, exports_watchfire_plugin_probe_error_t *err) {
  char *json = strndup((char *)config->ptr, config->len);
  limit = json_number(json, "limit", 4.0);
  if (limit > 0) return true;
  err->tag = WATCHFIRE_PLUGIN_TYPES_ERROR_CONFIG;
  probe_plugin_string_dup(&err->val.config, "config.limit: write a load above 0, like limit = 4.0");
  return false;
}

static void gauge(exports_watchfire_plugin_probe_family_t *family, const char *metric, const char *help, double value) {
  memset(family, 0, sizeof *family);
  probe_plugin_string_dup(&family->metric, metric);
  probe_plugin_string_dup(&family->help, help);
  family->kind = EXPORTS_WATCHFIRE_PLUGIN_PROBE_KIND_GAUGE;
  family->points.ptr = calloc(1, sizeof *family->points.ptr);
  family->points.len = 1;
  family->points.ptr[0].value = value;
}

bool exports_watchfire_plugin_probe_collect(exports_watchfire_plugin_probe_collection_t *ret,
                                            exports_watchfire_plugin_probe_error_t *err) {
  probe_plugin_string_t family = {(uint8_t *)"load", 4};
  probe_plugin_list_string_t families = {&family, 1};
  watchfire_plugin_system_list_reading_t readings;
  /* A refusal of the host goes back to it as it is. */
  if (!watchfire_plugin_system_read(&families, &readings, err)) return false;
  for (size_t i = 0; i < readings.len; i++) {
    watchfire_plugin_system_reading_t *reading = &readings.ptr[i];
    if (reading->metric.len != 5 || memcmp(reading->metric.ptr, "load1", 5)) continue;
    memset(ret, 0, sizeof *ret);
    ret->families.ptr = malloc(2 * sizeof *ret->families.ptr);
    ret->families.len = 2;
    gauge(&ret->families.ptr[0], "load_to_limit_ratio", "Load over its limit", reading->value / limit);
    gauge(&ret->families.ptr[1], "load_limit", "The load that counts as full", limit);
    return true;
  }
  err->tag = WATCHFIRE_PLUGIN_TYPES_ERROR_UNAVAILABLE;
  err->val.unavailable.retry_after_ms.is_some = false;
  probe_plugin_string_dup(&err->val.unavailable.message, "the host tells no load");
  return false;
}
