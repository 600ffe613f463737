# Writes OUTPUT, the source of commit() (launch/doctor/commit.h), for the checkout SOURCE. The file changes only if the
# commit does.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty=+ --match= --abbrev=8
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT [[
#include "launch/doctor/commit.h"

const char* foretoken::commit() {
  return "@commit@";
}
]])
