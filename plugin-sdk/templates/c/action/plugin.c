/* An action: it tries to put things right, once an attempt. When, how often, and whether it helped is the host's
 * affair: the next samples tell.
 *
 * This one asks a service to drain what the alert names. */

#include "action_plugin.h"
#include "json.h"
#include <stdio.h>

static char *url, *label;

static const char *SCHEMA =
    "{\"type\": \"object\", \"properties\": {"
    "\"url\": {\"type\": \"string\", \"description\": \"where to post\"}, "
    "\"label\": {\"type\": \"string\", \"description\": \"the label that says what to drain\"}}, "
    "\"required\": [\"url\", \"label\"]}";

void exports_watchfire_plugin_action_describe(exports_watchfire_plugin_action_description_t *ret) {
  memset(ret, 0, sizeof *ret);
  action_plugin_string_dup(&ret->name, "@NAME@");
  action_plugin_string_dup(&ret->version, "0.1.0");
  action_plugin_string_dup(&ret->summary, "@SUMMARY@");
  ret->config_schema.is_some = true;
  action_plugin_string_dup(&ret->config_schema.val, SCHEMA);
  /* What to ask the operator for; nothing is allowed until it stands in the configuration. */
  ret->wants.ptr = malloc(sizeof *ret->wants.ptr);
  ret->wants.len = 1;
  action_plugin_string_dup(&ret->wants.ptr[0], "http http://127.0.0.1:8080");
}

static bool refused(exports_watchfire_plugin_action_error_t *err, const char *text) {
  err->tag = WATCHFIRE_PLUGIN_TYPES_ERROR_CONFIG;
  action_plugin_string_dup(&err->val.config, text);
  return false;
}

/* An error here refuses the configuration before anything changes: say what to write instead. */
bool exports_watchfire_plugin_action_configure(action_plugin_string_t *config, exports_watchfire_plugin_action_error_t *err) {
  char *json = strndup((char *)config->ptr, config->len);
  url = json_text(json, "url");
  label = json_text(json, "label");
  if (!url || strncmp(url, "http", 4))
    return refused(err, "config.url: write a whole address, like http://127.0.0.1:8080/drain");
  if (!label) return refused(err, "config.label: write the label of the alert that says what to drain");
  return true;
}

bool exports_watchfire_plugin_action_act(exports_watchfire_plugin_action_alert_t *alert, uint32_t attempt, bool dry_run,
                                         exports_watchfire_plugin_action_outcome_t *ret,
                                         exports_watchfire_plugin_action_error_t *err) {
  action_plugin_string_t *what = NULL;
  for (size_t i = 0; i < alert->labels.len; i++) {
    watchfire_plugin_types_pair_t *pair = &alert->labels.ptr[i];
    if (pair->f0.len == strlen(label) && !memcmp(pair->f0.ptr, label, pair->f0.len)) what = &pair->f1;
  }
  if (!what) return refused(err, "config.label: the alert has no such label");

  size_t length = what->len + 32;
  char *did = malloc(length), *body = calloc(1, 6 * length + 16);
  ret->changed = !dry_run;
  snprintf(did, length, "%s %.*s", dry_run ? "would drain" : "drained", (int)what->len, (char *)what->ptr);
  action_plugin_string_dup(&ret->did, did);
  if (dry_run) return true;

  strcpy(body, "{\"drain\":");
  json_quote(body, (char *)what->ptr, what->len);
  strcat(body, "}");
  /* A repeated attempt must not act twice on one request. */
  char key[64];
  snprintf(key, sizeof key, "%.*s-%u", (int)alert->fingerprint.len, (char *)alert->fingerprint.ptr, (unsigned)attempt);
  watchfire_plugin_http_pair_t headers[2];
  action_plugin_string_set(&headers[0].f0, "Content-Type");
  action_plugin_string_set(&headers[0].f1, "application/json");
  action_plugin_string_set(&headers[1].f0, "Idempotency-Key");
  action_plugin_string_set(&headers[1].f1, key);
  watchfire_plugin_http_request_t request = {0};
  watchfire_plugin_http_response_t response;
  action_plugin_string_set(&request.method, "POST");
  action_plugin_string_set(&request.url, url);
  request.headers.ptr = headers;
  request.headers.len = 2;
  request.body.ptr = (uint8_t *)body;
  request.body.len = strlen(body);
  request.timeout_ms = 10000;
  if (!watchfire_plugin_http_send(&request, &response, err)) return false;
  if (response.status >= 200 && response.status < 300) return true;

  /* The case of the error tells the host whether trying again would help. */
  snprintf(key, sizeof key, "answered %d", response.status);
  if (response.status == 408 || response.status == 429 || response.status >= 500) {
    err->tag = WATCHFIRE_PLUGIN_TYPES_ERROR_UNAVAILABLE;
    err->val.unavailable.retry_after_ms.is_some = false;
    action_plugin_string_dup(&err->val.unavailable.message, key);
  } else {
    err->tag = WATCHFIRE_PLUGIN_TYPES_ERROR_REJECTED;
    action_plugin_string_dup(&err->val.rejected, key);
  }
  return false;
}
