/* What TF Serving does, in C: loads a SavedModel into a session and runs one signature.
 *
 *   serve EXPORT INPUT_OPERATION OUTPUT_OPERATION OUTPUT_INDEX HEIGHT WIDTH COUNT < pixels > translated pixels
 *
 * Pixels are uint8 (COUNT, HEIGHT, WIDTH, 3). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s: %s\n", what, TF_Message(status));
    exit(1);
  }
}

int main(int argc, char **argv) {
  if (argc != 8) return 2;
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, "load");

  int64_t shape[] = {atoll(argv[7]), atoll(argv[5]), atoll(argv[6]), 3};
  size_t size = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
  TF_Tensor *input = TF_AllocateTensor(TF_UINT8, shape, 4, size);
  if (fread(TF_TensorData(input), 1, size, stdin) != size) return 3;

  TF_Output from = {TF_GraphOperationByName(graph, argv[2]), 0};
  TF_Output to = {TF_GraphOperationByName(graph, argv[3]), atoi(argv[4])};
  if (!from.oper || !to.oper) return 4;
  TF_Tensor *output = NULL;
  TF_SessionRun(session, NULL, &from, &input, 1, &to, &output, 1, NULL, 0, NULL, status);
  check(status, "run");
  fwrite(TF_TensorData(output), 1, TF_TensorByteSize(output), stdout);
  return 0;
}
