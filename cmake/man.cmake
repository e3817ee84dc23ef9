# The man pages: berth(7), berth(1), berth-options(7) and berth-metrics(7) from the tables in arena/,
# and the pages of the public calls from the comments in the headers. Those of the calls need python3; without it they are
# left out, with a message.

set(man_source ${PROJECT_SOURCE_DIR}/docs/man)
set(man_build ${PROJECT_BINARY_DIR}/man)
set(generate ${PROJECT_SOURCE_DIR}/docs/generate)

configure_file(${man_source}/berth.7.in ${man_build}/man7/berth.7 @ONLY)
install(FILES ${man_build}/man7/berth.7 DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)
if(TARGET berth_tool)
  configure_file(${man_source}/berth.1.in ${man_build}/man1/berth.1 @ONLY)
  install(FILES ${man_build}/man1/berth.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()

# berth-options(7) and berth-metrics(7): printed by a program that has the tables compiled in.
if(NOT CMAKE_CROSSCOMPILING OR CMAKE_CROSSCOMPILING_EMULATOR)
  add_executable(berth_tables ${generate}/tables.c arena/metrics/tables.c)
  target_include_directories(berth_tables PRIVATE arena include)
  foreach(table options metrics)
    set(page ${man_build}/man7/berth-${table}.7)
    add_custom_command(OUTPUT ${page} COMMAND berth_tables ${table} man > ${page}
      DEPENDS berth_tables VERBATIM)
    add_custom_target(man_${table} ALL DEPENDS ${page})
    install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)
  endforeach()
endif()

find_program(BERTH_PYTHON python3)
if(NOT BERTH_PYTHON)
  message(STATUS "python3 was not found: no man pages of the single calls")
  return()
endif()
file(GLOB public_headers CONFIGURE_DEPENDS include/berth/*.h)
list(REMOVE_ITEM public_headers ${PROJECT_SOURCE_DIR}/include/berth/berth.h)
add_custom_command(OUTPUT ${man_build}/man3.stamp
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${man_build}/man3
  COMMAND ${BERTH_PYTHON} -B ${generate}/man.py ${PROJECT_VERSION} ${man_build}/man3
    ${public_headers}
  COMMAND ${CMAKE_COMMAND} -E touch ${man_build}/man3.stamp
  DEPENDS ${generate}/man.py ${generate}/headers.py ${man_source}/groups ${public_headers}
  VERBATIM)
add_custom_target(man_calls ALL DEPENDS ${man_build}/man3.stamp)
install(DIRECTORY ${man_build}/man3 DESTINATION ${CMAKE_INSTALL_MANDIR})
