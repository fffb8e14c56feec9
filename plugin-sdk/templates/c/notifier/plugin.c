/* A notifier: it tells a service about alerts, once. Retrying, grouping and muting is the host's affair.
 *
 * This one posts a line of text to a chat. */

#include "json.h"
#include "notifier_plugin.h"
#include <stdio.h>
#include <strings.h>

static char *url;

static const char *SCHEMA =
    "{\"type\": \"object\", \"properties\": {\"url\": {\"type\": \"string\", \"description\": \"where to post\"}}, "
    "\"required\": [\"url\"]}";

void exports_watchfire_plugin_notifier_describe(exports_watchfire_plugin_notifier_description_t *ret) {
  memset(ret, 0, sizeof *ret);
  notifier_plugin_string_dup(&ret->name, "@NAME@");
  notifier_plugin_string_dup(&ret->version, "0.1.0");
  notifier_plugin_string_dup(&ret->summary, "@SUMMARY@");
  ret->config_schema.is_some = true;
  notifier_plugin_string_dup(&ret->config_schema.val, SCHEMA);
  /* What to ask the operator for; nothing is allowed until it stands in the configuration. */
  ret->wants.ptr = malloc(sizeof *ret->wants.ptr);
  ret->wants.len = 1;
  notifier_plugin_string_dup(&ret->wants.ptr[0], "http https://chat.example:443");
}

/* An error here refuses the configuration before anything changes: say what to write instead. */
bool exports_watchfire_plugin_notifier_configure(notifier_plugin_string_t *config,
                                                 exports_watchfire_plugin_notifier_error_t *err) {
  /* May be "{{secret:chat}}": the host fills it in on the way out, this code never sees it. */
  url = json_text(strndup((char *)config->ptr, config->len), "url");
  if (url && (!strncmp(url, "http", 4) || !strncmp(url, "{{secret:", 9))) return true;
  err->tag = WATCHFIRE_PLUGIN_TYPES_ERROR_CONFIG;
  notifier_plugin_string_dup(&err->val.config,
                             "config.url: write a whole address, https://chat.example/hook, or {{secret:NAME}}");
  return false;
}

static notifier_plugin_string_t *header(watchfire_plugin_http_response_t *response, const char *name) {
  for (size_t i = 0; i < response->headers.len; i++) {
    watchfire_plugin_http_pair_t *pair = &response->headers.ptr[i];
    if (pair->f0.len == strlen(name) && !strncasecmp((char *)pair->f0.ptr, name, pair->f0.len)) return &pair->f1;
  }
  return NULL;
}

/* 2xx, or the error that tells the host whether to try again. */
static bool check(watchfire_plugin_http_response_t *response, exports_watchfire_plugin_notifier_error_t *err) {
  char text[32];
  if (response->status >= 200 && response->status < 300) return true;
  snprintf(text, sizeof text, "answered %d", response->status);
  if (response->status == 408 || response->status == 429 || response->status >= 500) {
    notifier_plugin_string_t *wait = header(response, "retry-after");
    err->tag = WATCHFIRE_PLUGIN_TYPES_ERROR_UNAVAILABLE;
    notifier_plugin_string_dup(&err->val.unavailable.message, text);
    err->val.unavailable.retry_after_ms.is_some = wait != NULL;
    if (wait) err->val.unavailable.retry_after_ms.val = strtoull(strndup((char *)wait->ptr, wait->len), NULL, 10) * 1000;
  } else {
    err->tag = WATCHFIRE_PLUGIN_TYPES_ERROR_REJECTED;
    notifier_plugin_string_dup(&err->val.rejected, text);
  }
  return false;
}

bool exports_watchfire_plugin_notifier_notify(exports_watchfire_plugin_notifier_notification_t *notification,
                                              exports_watchfire_plugin_notifier_receipt_t *ret,
                                              exports_watchfire_plugin_notifier_error_t *err) {
  bool resolved = notification->reason.len == 7 && !memcmp(notification->reason.ptr, "resolve", 7);
  size_t length = notification->title.len + 16;
  char *text = malloc(length), *body = calloc(1, 6 * length + 16);
  int written = snprintf(text, length, "%s: %.*s", resolved ? "resolved" : "firing", (int)notification->title.len,
                         (char *)notification->title.ptr);
  strcpy(body, "{\"text\":");
  json_quote(body, text, (size_t)written);
  strcat(body, "}");

  /* The id is the same over retries: the service can drop a duplicate by it. */
  watchfire_plugin_http_pair_t headers[2];
  notifier_plugin_string_set(&headers[0].f0, "Content-Type");
  notifier_plugin_string_set(&headers[0].f1, "application/json");
  notifier_plugin_string_set(&headers[1].f0, "Idempotency-Key");
  headers[1].f1 = notification->id;
  watchfire_plugin_http_request_t request = {0};
  watchfire_plugin_http_response_t response;
  notifier_plugin_string_set(&request.method, "POST");
  notifier_plugin_string_set(&request.url, url);
  request.headers.ptr = headers;
  request.headers.len = 2;
  request.body.ptr = (uint8_t *)body;
  request.body.len = strlen(body);
  request.timeout_ms = 10000;
  if (!watchfire_plugin_http_send(&request, &response, err) || !check(&response, err)) return false;

  notifier_plugin_string_t *id = header(&response, "x-message-id");
  memset(ret, 0, sizeof *ret);
  ret->remote_id.is_some = id != NULL;
  if (id) ret->remote_id.val = *id;
  return true;
}
