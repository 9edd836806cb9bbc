/* What a busy TF Serving does, in C: several threads send files to one signature of a SavedModel, again and again.
 *
 *   serving_load EXPORT INPUT_OPERATION OUTPUT_OPERATION OUTPUT_INDEX THREADS SECS FILE...
 *
 * Each request is a batch of all the files. First one thread sends one; every later reply must equal that one byte for
 * byte. Prints a line every tenth of the time: seconds, requests, resident memory in MB, replies that differed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>
#include <time.h>
#include <unistd.h>

static TF_Session *session;
static TF_Output from, to;
static char **files;
static size_t *lengths;
static int count;
static TF_TString *expected; /* a reply, one string for each file */
static volatile int done;
static long requests, different;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void free_strings(void *data, size_t size, void *unused) {
  for (size_t i = 0; i < size / sizeof(TF_TString); i++) TF_TString_Dealloc((TF_TString *)data + i);
  free(data);
}

/* Sends all the files; the reply is the caller's. */
static TF_Tensor *request(void) {
  TF_Status *status = TF_NewStatus();
  int64_t shape[] = {count};
  TF_TString *strings = malloc(count * sizeof(TF_TString));
  for (int i = 0; i < count; i++) {
    TF_TString_Init(strings + i);
    TF_TString_Copy(strings + i, files[i], lengths[i]);
  }
  TF_Tensor *input = TF_NewTensor(TF_STRING, shape, 1, strings, count * sizeof(TF_TString), free_strings, NULL);
  TF_Tensor *output = NULL;
  TF_SessionRun(session, NULL, &from, &input, 1, &to, &output, 1, NULL, 0, NULL, status);
  if (TF_GetCode(status) != TF_OK) fail("run", TF_Message(status));
  TF_DeleteTensor(input);
  TF_DeleteStatus(status);
  return output;
}

static int equals(const TF_TString *a, const TF_TString *b) {
  size_t size = TF_TString_GetSize(a);
  return size == TF_TString_GetSize(b) && !memcmp(TF_TString_GetDataPointer(a), TF_TString_GetDataPointer(b), size);
}

static void *work(void *unused) {
  while (!done) {
    TF_Tensor *reply = request();
    const TF_TString *strings = TF_TensorData(reply);
    int wrong = 0;
    for (int i = 0; i < count; i++) wrong += !equals(strings + i, expected + i);
    TF_DeleteTensor(reply);
    pthread_mutex_lock(&lock);
    requests++;
    different += wrong;
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

static long resident_mb(void) {
  long pages = 0, ignored;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld %ld", &ignored, &pages) != 2) pages = 0;
  if (file) fclose(file);
  return pages * sysconf(_SC_PAGESIZE) / 1000000;
}

int main(int argc, char **argv) {
  if (argc < 8) return 2;
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  const char *tags[] = {"serve"};
  session = TF_LoadSessionFromSavedModel(TF_NewSessionOptions(), NULL, argv[1], tags, 1, graph, NULL, status);
  if (TF_GetCode(status) != TF_OK) fail("load", TF_Message(status));
  from = (TF_Output){TF_GraphOperationByName(graph, argv[2]), 0};
  to = (TF_Output){TF_GraphOperationByName(graph, argv[3]), atoi(argv[4])};
  if (!from.oper || !to.oper) fail("load", "there is no such operation");
  int threads = atoi(argv[5]);
  double secs = atof(argv[6]);

  count = argc - 7;
  files = malloc(count * sizeof(char *));
  lengths = malloc(count * sizeof(size_t));
  for (int i = 0; i < count; i++) {
    FILE *file = fopen(argv[7 + i], "rb");
    if (!file) fail(argv[7 + i], "cannot be opened");
    fseek(file, 0, SEEK_END);
    lengths[i] = ftell(file);
    rewind(file);
    files[i] = malloc(lengths[i]);
    if (fread(files[i], 1, lengths[i], file) != lengths[i]) fail(argv[7 + i], "cannot be read");
    fclose(file);
  }
  expected = TF_TensorData(request());

  pthread_t *running = malloc(threads * sizeof(pthread_t));
  for (int i = 0; i < threads; i++) pthread_create(running + i, NULL, work, NULL);
  for (int part = 1; part <= 10; part++) {
    struct timespec pause = {(time_t)(secs / 10), (long)(1e9 * (secs / 10 - (time_t)(secs / 10)))};
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&lock);
    printf("%.1f %ld %ld %ld\n", part * secs / 10, requests, resident_mb(), different);
    pthread_mutex_unlock(&lock);
    fflush(stdout);
  }
  done = 1;
  for (int i = 0; i < threads; i++) pthread_join(running[i], NULL);
  return different ? 1 : 0;
}
