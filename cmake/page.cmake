# Makes the web page of `berth export` a C source: the style and the script are put into the page, so
# that it is one file, and the file becomes an array of bytes.
#
#   cmake -D FOLDER=arena/cli/page -D OUTPUT=page.c -P cmake/page.cmake

file(READ ${FOLDER}/page.html page)
file(GLOB scripts ${FOLDER}/*.js)
list(SORT scripts)
set(script "")
foreach(part ${scripts})
  file(READ ${part} text)
  string(APPEND script "${text}")
endforeach()
file(READ ${FOLDER}/page.css style)
foreach(part style script)
  string(REPLACE "@${part}@" "${${part}}" page "${page}")
endforeach()
file(WRITE ${OUTPUT}.html "${page}")
file(READ ${OUTPUT}.html bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"cli/page.h\"\n\nconst unsigned char berth__page[] = {\n${bytes}0};\n")
